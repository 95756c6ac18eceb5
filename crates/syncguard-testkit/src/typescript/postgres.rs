use std::time::Duration;

use crate::sql::Foreign;

/// The clock of its transactions. It stands still until the end of each.
const NOW: &str = "SELECT floor(extract(epoch FROM now()) * 1000)::bigint";

/// How long a lock counts as live past its expiry, in milliseconds.
const GRACE_MS: i64 = 1_000;

/// A client on two tables of a PostgreSQL server. It runs its transactions, statement by statement,
/// in the session that it is given.
#[derive(Clone, Copy, Debug)]
pub struct PostgresPeer<'a> {
    /// The table of the locks.
    pub locks: &'a str,
    /// The table of the fence counters.
    pub counters: &'a str,
    /// The ttl of its grants.
    pub ttl: Duration,
}

impl PostgresPeer<'_> {
    /// Acquires a key: eight round trips. Returns the fence and the end of the grant, in Unix
    /// milliseconds, or `None` if another client holds the key.
    pub async fn acquire(
        &self,
        session: &mut impl Foreign,
        key: &str,
        id: &str,
    ) -> Option<(i64, i64)> {
        let Self { locks, counters, .. } = self;
        let (name, fence_name, id) = (quoted(key), quoted(&format!("fence:{key}")), quoted(id));
        session.run("BEGIN").await;
        session.run(&format!("SELECT pg_advisory_xact_lock(hashtext({name}))")).await;
        let now = session.number(NOW).await;
        if is_live(session, &format!("SELECT expires_at_ms FROM {locks} WHERE key = {name}"), now)
            .await
        {
            session.run("COMMIT").await;
            return None;
        }
        let counter = format!(
            "INSERT INTO {counters} (fence_key, fence, key_debug) VALUES ({fence_name}, 0, {name})
            ON CONFLICT (fence_key) DO NOTHING"
        );
        session.run(&counter).await;
        let count = format!(
            "UPDATE {counters} SET fence = fence + 1 WHERE fence_key = {fence_name} RETURNING fence"
        );
        let fence = session.number(&count).await;
        let expires = now + self.ttl_ms();
        let upsert = format!(
            "INSERT INTO {locks} (key, lock_id, expires_at_ms, acquired_at_ms, fence, user_key)
            VALUES ({name}, {id}, {expires}, {now}, '{fence:015}', {name})
            ON CONFLICT (key) DO UPDATE SET lock_id = EXCLUDED.lock_id,
                expires_at_ms = EXCLUDED.expires_at_ms, acquired_at_ms = EXCLUDED.acquired_at_ms,
                fence = EXCLUDED.fence, user_key = EXCLUDED.user_key"
        );
        session.run(&upsert).await;
        session.run("COMMIT").await;
        Some((fence, expires))
    }

    /// Extends a grant. Returns its end, or `None` if it is not live.
    pub async fn extend(&self, session: &mut impl Foreign, id: &str) -> Option<i64> {
        let now = self.begin_with(session, id).await;
        let expires = now.map(|now| now + self.ttl_ms());
        if let Some(expires) = expires {
            let (locks, id) = (self.locks, quoted(id));
            let extend =
                format!("UPDATE {locks} SET expires_at_ms = {expires} WHERE lock_id = {id}");
            session.run(&extend).await;
        }
        session.run("COMMIT").await;
        expires
    }

    /// Releases a grant. Returns whether it was live.
    pub async fn release(&self, session: &mut impl Foreign, id: &str) -> bool {
        let was_live = self.begin_with(session, id).await.is_some();
        if was_live {
            let delete = format!("DELETE FROM {} WHERE lock_id = {}", self.locks, quoted(id));
            session.run(&delete).await;
        }
        session.run("COMMIT").await;
        was_live
    }

    /// Begins a transaction and locks the row of a grant. Returns the time if the grant is live.
    async fn begin_with(&self, session: &mut impl Foreign, id: &str) -> Option<i64> {
        session.run("BEGIN").await;
        let now = session.number(NOW).await;
        let (locks, id) = (self.locks, quoted(id));
        let find = format!("SELECT expires_at_ms FROM {locks} WHERE lock_id = {id} FOR UPDATE");
        is_live(session, &find, now).await.then_some(now)
    }

    fn ttl_ms(&self) -> i64 {
        i64::try_from(self.ttl.as_millis()).unwrap_or(i64::MAX)
    }
}

/// Returns whether a statement finds the row of a live lock. It selects the expiry.
async fn is_live(session: &mut impl Foreign, find: &str, now: i64) -> bool {
    session.number(&format!("SELECT coalesce(({find}), 0)")).await > now - GRACE_MS
}

/// Returns a text as a literal.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
