//! The transactions of a TypeScript client, statement by statement.

use std::time::Duration;

use sqlx::{
    AssertSqlSafe, Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use crate::{Foreign, Names};

/// The ttl of its grants.
const TTL: Duration = Duration::from_millis(20);

/// The clock of its transactions. It stands still until the end of each.
const NOW: &str = "SELECT floor(extract(epoch FROM now()) * 1000)::bigint";

type Statement = Query<'static, Postgres, PgArguments>;

fn statement(sql: String) -> Statement {
    sqlx::query(AssertSqlSafe(sql))
}

async fn run(foreign: &mut Foreign, statement: Statement) -> Option<PgRow> {
    statement.fetch_optional(&mut foreign.0).await.unwrap()
}

fn ttl_ms() -> i64 {
    i64::try_from(TTL.as_millis()).unwrap()
}

/// Returns whether the lock in a row is live.
fn is_live(row: &PgRow, now: i64) -> bool {
    row.get::<i64, _>("expires_at_ms") > now - 1_000
}

/// Acquires a key: eight round trips. Returns the fence and the end of the grant.
pub(crate) async fn typescript_acquire(
    foreign: &mut Foreign,
    names: &Names,
    text: &str,
    id: &str,
) -> Option<(u64, i64)> {
    let (locks, counters) = (&names.locks, &names.counters);
    let (key, id, fence_key) = (text.to_owned(), id.to_owned(), format!("fence:{text}"));
    foreign.run("BEGIN").await;
    let turn = statement("SELECT pg_advisory_xact_lock(hashtext($1))".to_owned());
    run(foreign, turn.bind(key.clone())).await;
    let now = foreign.number(NOW).await;
    let found = statement(format!("SELECT * FROM {locks} WHERE key = $1"));
    if run(foreign, found.bind(key.clone())).await.is_some_and(|row| is_live(&row, now)) {
        foreign.run("COMMIT").await;
        return None;
    }
    let counter = statement(format!(
        "INSERT INTO {counters} (fence_key, fence, key_debug) VALUES ($1, 0, $2)
        ON CONFLICT (fence_key) DO NOTHING"
    ));
    run(foreign, counter.bind(fence_key.clone()).bind(key.clone())).await;
    let count = statement(format!(
        "UPDATE {counters} SET fence = fence + 1 WHERE fence_key = $1 RETURNING fence"
    ));
    let fence: i64 = run(foreign, count.bind(fence_key)).await.unwrap().get("fence");
    let expires = now + ttl_ms();
    let upsert = statement(format!(
        "INSERT INTO {locks} (key, lock_id, expires_at_ms, acquired_at_ms, fence, user_key)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (key) DO UPDATE SET lock_id = EXCLUDED.lock_id,
            expires_at_ms = EXCLUDED.expires_at_ms, acquired_at_ms = EXCLUDED.acquired_at_ms,
            fence = EXCLUDED.fence, user_key = EXCLUDED.user_key"
    ));
    let upsert = upsert.bind(key.clone()).bind(id).bind(expires).bind(now);
    run(foreign, upsert.bind(format!("{fence:015}")).bind(key)).await;
    foreign.run("COMMIT").await;
    Some((u64::try_from(fence).unwrap(), expires))
}

/// Extends a grant. Returns its end, or `None` if it is not live.
pub(crate) async fn typescript_extend(
    foreign: &mut Foreign,
    names: &Names,
    id: &str,
) -> Option<i64> {
    let update = format!("UPDATE {} SET expires_at_ms = $2 WHERE key = $1", names.locks);
    let found = begin_with(foreign, names, id).await;
    let expires = match found {
        Some((key, now)) => {
            let expires = now + ttl_ms();
            run(foreign, statement(update).bind(key).bind(expires)).await;
            Some(expires)
        }
        None => None,
    };
    foreign.run("COMMIT").await;
    expires
}

/// Releases a grant. Returns whether it was live.
pub(crate) async fn typescript_release(foreign: &mut Foreign, names: &Names, id: &str) -> bool {
    let found = begin_with(foreign, names, id).await;
    let is_live = found.is_some();
    if let Some((key, _)) = found {
        let delete = statement(format!("DELETE FROM {} WHERE key = $1", names.locks));
        run(foreign, delete.bind(key)).await;
    }
    foreign.run("COMMIT").await;
    is_live
}

/// Begins a transaction and locks the row of a live grant. Returns its key, and the time.
async fn begin_with(foreign: &mut Foreign, names: &Names, id: &str) -> Option<(String, i64)> {
    foreign.run("BEGIN").await;
    let now = foreign.number(NOW).await;
    let find = statement(format!("SELECT * FROM {} WHERE lock_id = $1 FOR UPDATE", names.locks));
    let row = run(foreign, find.bind(id.to_owned())).await.filter(|row| is_live(row, now))?;
    Some((row.get("key"), now))
}
