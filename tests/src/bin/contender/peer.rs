use std::time::Duration;

use sqlx::{ConnectOptions, PgConnection, Row, postgres::PgConnectOptions};
use syncguard::{Fence, LockId, LockKey};
use syncguard_testkit::{
    sql::Foreign,
    typescript::{PostgresPeer, RedisPeer},
};

use crate::Outcome;

/// A TypeScript-like client on one of the stores that the TypeScript client knows.
pub(crate) enum Peer {
    Redis(RedisPeer),
    Postgres(Session, Duration),
}

impl Peer {
    /// Connects to the store of a URL. The names are the default ones.
    pub(crate) async fn connect(url: &str, ttl: Duration) -> Outcome<Self> {
        if let Some(server) = url.strip_prefix("redis://") {
            return Ok(Self::Redis(RedisPeer::connect(server, "syncguard").await.with_ttl(ttl)));
        }
        Ok(Self::Postgres(Session::open(url).await, ttl))
    }

    /// Returns the fence of a grant, or `None` if another client holds the lock.
    pub(crate) async fn acquire(&mut self, key: &LockKey, id: LockId) -> Outcome<Option<Fence>> {
        let (key, id) = (key.as_str(), id.as_str());
        let fence = match self {
            Self::Redis(peer) => peer.acquire(key, id).await?,
            Self::Postgres(session, ttl) => {
                let granted = tables(*ttl).acquire(session, key, id).await;
                granted.map(|(fence, _)| u64::try_from(fence)).transpose()?
            }
        };
        Ok(fence.map(Fence::new).transpose()?)
    }

    /// Returns whether the id held a lock.
    pub(crate) async fn release(&mut self, id: LockId) -> bool {
        match self {
            Self::Redis(peer) => peer.release(id.as_str()).await,
            Self::Postgres(session, ttl) => tables(*ttl).release(session, id.as_str()).await,
        }
    }
}

fn tables(ttl: Duration) -> PostgresPeer<'static> {
    PostgresPeer { locks: "syncguard_locks", counters: "syncguard_fence_counters", ttl }
}

/// A session of a PostgreSQL server. It fails by panicking.
pub(crate) struct Session(PgConnection);

#[expect(clippy::unwrap_used, reason = "a program of a test fails by panicking")]
impl Foreign for Session {
    async fn open(url: &str) -> Self {
        let options: PgConnectOptions = url.parse().unwrap();
        Self(options.connect().await.unwrap())
    }

    async fn run(&mut self, sql: &str) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut self.0).await.unwrap();
    }

    async fn number(&mut self, sql: &str) -> i64 {
        sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_one(&mut self.0).await.unwrap().get(0)
    }
}
