use std::time::Duration;

use sqlx::{
    Connection, Database, Executor, FromRow, IntoArguments, MySqlConnection, PgConnection,
    SqliteConnection,
};
use syncguard::{
    mysql::{MysqlBackend, MysqlConfig},
    postgres::{PostgresBackend, PostgresConfig},
};
use syncguard_testkit::typescript::RedisPeer;

use crate::{
    Outcome,
    leftovers::{Left, left},
};

/// Counts of what is in a store, each with a statement that counts it.
type Statements = &'static [(&'static str, &'static str)];

const REDIS_KEYS: &str = include_str!("redis_keys.lua");
const REDIS_CHANNELS: &str = "return #redis.call('PUBSUB', 'CHANNELS', '*')";

/// The kinds of keys that stay in Redis.
const REDIS_KEPT: [&str; 2] = ["fence counters", "tombstones of abandoned ids"];

/// The rows of tombstones and of shared holders have longer keys than any user.
const POSTGRES_ENTRIES: Statements = &[
    ("locks", "SELECT count(*) FROM syncguard_locks WHERE octet_length(key) <= 512"),
    (
        "shared holders",
        "SELECT count(*) FROM syncguard_locks
        WHERE octet_length(key) > 512 AND head_key IS NOT NULL",
    ),
    ("clients in line", "SELECT count(*) FROM syncguard_locks_line"),
    (
        "sessions that are in a transaction",
        "SELECT count(*) FROM pg_stat_activity
        WHERE pid <> pg_backend_pid() AND backend_type = 'client backend' AND xact_start IS NOT NULL",
    ),
];
const POSTGRES_KEPT: Statements = &[
    ("fence counters", "SELECT count(*) FROM syncguard_fence_counters"),
    (
        "tombstones of abandoned ids",
        "SELECT count(*) FROM syncguard_locks WHERE octet_length(key) > 512 AND head_key IS NULL",
    ),
];
const POSTGRES_CONNECTIONS: Statements = &[
    ("advisory locks", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"),
    (
        "sessions",
        "SELECT count(*) FROM pg_stat_activity
        WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
    ),
];

const MYSQL_ENTRIES: Statements = &[
    (
        "locks",
        "SELECT count(*) FROM syncguard_locks WHERE lock_key < X'FE' AND lock_id IS NOT NULL",
    ),
    (
        "shared holders",
        "SELECT count(*) FROM syncguard_locks WHERE lock_key >= X'FE' AND lock_key < X'FF'",
    ),
    (
        "announcements",
        "SELECT count(*) FROM syncguard_locks
        WHERE announced_until_ms > UNIX_TIMESTAMP(NOW(3)) * 1000",
    ),
];
const MYSQL_KEPT: Statements = &[
    ("fence counters", "SELECT count(*) FROM syncguard_locks WHERE lock_key < X'FE'"),
    ("tombstones of abandoned ids", "SELECT count(*) FROM syncguard_locks WHERE lock_key >= X'FF'"),
];
const MYSQL_CONNECTIONS: Statements = &[(
    "sessions",
    "SELECT count(*) FROM information_schema.processlist
    WHERE id <> connection_id() AND user NOT IN ('system user', 'event_scheduler')",
)];

/// Grants that expired unreleased stay until a later release finds them.
const SQLITE_ENTRIES: Statements = &[
    (
        "locks",
        "SELECT count(*) FROM syncguard_locks
        WHERE lock_id IS NOT NULL AND expires_at_ms > unixepoch('subsec') * 1000",
    ),
    ("shared holders", "SELECT count(*) FROM syncguard_holders"),
    (
        "announcements",
        "SELECT count(*) FROM syncguard_announcements
        WHERE until_ms > unixepoch('subsec') * 1000",
    ),
];
const SQLITE_KEPT: Statements = &[
    ("fence counters", "SELECT count(*) FROM syncguard_locks"),
    ("tombstones of abandoned ids", "SELECT count(*) FROM syncguard_abandoned"),
];

/// A store as an operator sees it.
pub(crate) struct Store {
    session: Session,
    /// Deletes what the backend deletes in the background, later.
    pruner: Option<Pruner>,
}

enum Session {
    Redis(RedisPeer),
    Postgres(PgConnection),
    Mysql(MySqlConnection),
    Sqlite(SqliteConnection),
    /// Nothing here looks into the store.
    None,
}

enum Pruner {
    Postgres(PostgresBackend),
    Mysql(MysqlBackend),
}

impl Store {
    pub(crate) async fn open(url: &str) -> Outcome<Self> {
        let (mut pruner, scheme) = (None, url.split(':').next().unwrap_or_default());
        let session = match scheme {
            "redis" => {
                let server = url.trim_start_matches("redis://");
                Session::Redis(RedisPeer::connect(server, "syncguard").await)
            }
            "postgres" => {
                let config = PostgresConfig::from_url(url)?;
                pruner = Some(Pruner::Postgres(PostgresBackend::connect(config).await?));
                Session::Postgres(PgConnection::connect(url).await?)
            }
            "mysql" => {
                let config = MysqlConfig::from_url(url)?;
                pruner = Some(Pruner::Mysql(MysqlBackend::connect(config).await?));
                Session::Mysql(MySqlConnection::connect(url).await?)
            }
            "sqlite" => Session::Sqlite(SqliteConnection::connect(url).await?),
            _ => Session::None,
        };
        Ok(Self { session, pruner })
    }

    /// Prunes what is over, and returns what must not stay.
    pub(crate) async fn entries(&mut self) -> Outcome<Vec<Left>> {
        match &self.pruner {
            Some(Pruner::Postgres(backend)) => backend.prune(Duration::ZERO).await?,
            Some(Pruner::Mysql(backend)) => backend.prune(Duration::ZERO).await?,
            None => 0,
        };
        match &mut self.session {
            Session::Redis(peer) => redis_keys(peer, |kind| !REDIS_KEPT.contains(&kind)).await,
            Session::Postgres(session) => counts(session, POSTGRES_ENTRIES).await,
            Session::Mysql(session) => counts(session, MYSQL_ENTRIES).await,
            Session::Sqlite(session) => counts(session, SQLITE_ENTRIES).await,
            Session::None => Ok(Vec::new()),
        }
    }

    /// Returns what stays, as documented.
    pub(crate) async fn kept(&mut self) -> Outcome<Vec<Left>> {
        match &mut self.session {
            Session::Redis(peer) => redis_keys(peer, |kind| REDIS_KEPT.contains(&kind)).await,
            Session::Postgres(session) => counts(session, POSTGRES_KEPT).await,
            Session::Mysql(session) => counts(session, MYSQL_KEPT).await,
            Session::Sqlite(session) => counts(session, SQLITE_KEPT).await,
            Session::None => Ok(Vec::new()),
        }
    }

    /// Returns what must not stay once the backend is dropped.
    pub(crate) async fn connections(&mut self) -> Outcome<Vec<Left>> {
        drop(self.pruner.take());
        match &mut self.session {
            Session::Redis(peer) => {
                let channels = peer.call(&["EVAL", REDIS_CHANNELS, "0"]).await?.unwrap_or_default();
                let clients = peer.call(&["INFO", "clients"]).await?.unwrap_or_default();
                let clients =
                    clients.lines().find_map(|line| line.strip_prefix("connected_clients:"));
                // One of them is this session.
                let others = clients.unwrap_or_default().parse::<i64>()? - 1;
                let found = [left(channels.parse::<i64>()?, "channels"), left(others, "clients")];
                Ok(found.into_iter().flatten().collect())
            }
            Session::Postgres(session) => counts(session, POSTGRES_CONNECTIONS).await,
            Session::Mysql(session) => counts(session, MYSQL_CONNECTIONS).await,
            Session::Sqlite(_) | Session::None => Ok(Vec::new()),
        }
    }
}

/// Counts the keys of some kinds.
async fn redis_keys(peer: &mut RedisPeer, is_wanted: impl Fn(&str) -> bool) -> Outcome<Vec<Left>> {
    let lines = peer.call(&["EVAL", REDIS_KEYS, "0"]).await?.unwrap_or_default();
    let kinds = lines.lines().filter_map(|line| line.split_once(' '));
    let mut found = Vec::new();
    for (count, kind) in kinds.filter(|(_, kind)| is_wanted(kind)) {
        found.extend(left(count.parse::<i64>()?, kind));
    }
    Ok(found)
}

/// Returns the counts that are not zero.
async fn counts<C: Connection>(session: &mut C, statements: Statements) -> Outcome<Vec<Left>>
where
    for<'c> &'c mut C: Executor<'c, Database = C::Database>,
    for<'r> (i64,): FromRow<'r, <C::Database as Database>::Row>,
    <C::Database as Database>::Arguments: IntoArguments<C::Database>,
{
    let mut found = Vec::new();
    for (what, sql) in statements {
        let (count,): (i64,) = sqlx::query_as(*sql).fetch_one(&mut *session).await?;
        found.extend(left(count, what));
    }
    Ok(found)
}
