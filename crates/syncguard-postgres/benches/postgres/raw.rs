use std::str::FromStr;

use sqlx::{
    AssertSqlSafe, ConnectOptions, Executor, PgConnection, Row, SqlSafeStr, SqlStr,
    postgres::{PgArguments, PgConnectOptions},
};
use syncguard_core::LockId;

use crate::columns::Columns;

/// The settings of the backend's connections.
pub(crate) const SETTINGS: [(&str, &str); 7] = [
    ("statement_timeout", "5000"),
    ("lock_timeout", "4000"),
    ("default_transaction_isolation", "read\\ committed"),
    ("synchronous_commit", "on"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("jit", "off"),
];

/// The class of the advisory locks of waiters.
pub(crate) const CLASS: i32 = i32::from_be_bytes(*b"SGwt");

/// Returns a statement as the backend sends it.
pub(crate) fn statement(text: &str) -> String {
    let text = text.replace("{stand}", include_str!("../../src/sql/stand.sql"));
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("--"));
    let text = lines.collect::<Vec<_>>().join("\n");
    Columns::All
        .fill(&text)
        .replace("{grants}", "counted")
        .replace("{and_is_counted}", "")
        .replace("{first_fence}", "1")
        .replace("{next_fence}", "seen.fence + 1")
        .replace("{seen_fence}", "excluded.fence - 1")
        .replace("{locks}", "\"syncguard_locks\"")
        .replace("{counters}", "\"syncguard_fence_counters\"")
        .replace("{leave}", "\"syncguard_locks_leave\"")
        .replace("{next}", "\"syncguard_locks_next\"")
        .replace("{own_transaction}", "true")
}

/// The driver alone, on one connection with the settings of the backend.
pub(crate) struct Raw {
    connection: PgConnection,
    acquire: SqlStr,
    release: SqlStr,
}

/// Whether a release notifies waiters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notify {
    Waiters,
    Never,
}

impl Raw {
    pub(crate) async fn connect(url: &str, notify: Notify) -> Self {
        let settings = SETTINGS.map(|(name, value)| (name, value.replace('\\', "")));
        let options = PgConnectOptions::from_str(url).unwrap().options(settings);
        let release = match notify {
            Notify::Waiters => include_str!("../../src/sql/release.sql"),
            Notify::Never => include_str!("sql/release_without_notify.sql"),
        };
        Self {
            connection: options.disable_statement_logging().connect().await.unwrap(),
            acquire: sql(&statement(include_str!("../../src/sql/acquire.sql"))),
            release: sql(&statement(release)),
        }
    }

    pub(crate) async fn acquire_and_release(&mut self, key: &str) {
        let id = LockId::mint().unwrap();
        assert!(self.attempt(key, id).await);
        self.release(id).await;
    }

    pub(crate) async fn release(&mut self, id: LockId) {
        let query = sqlx::query(self.release.clone()).bind(id.as_str()).bind(1_000_i64);
        let query = query.bind("syncguard_locks_released").bind(CLASS);
        let rows = query.fetch_all(&mut self.connection).await.unwrap();
        assert!(rows[0].get::<bool, _>("released"));
    }

    /// Tries to acquire a key, and returns whether it was granted.
    pub(crate) async fn attempt(&mut self, key: &str, id: LockId) -> bool {
        let query = sqlx::query(self.acquire.clone())
            .bind(key)
            .bind(id.as_str())
            .bind(1_000_i64)
            .bind(30_000_i64)
            .bind(format!("fence:{key}"))
            .bind(key)
            .bind(900_000_000_000_000_i64)
            .bind(None::<&str>);
        let rows = query.fetch_all(&mut self.connection).await.unwrap();
        rows[0].get::<Option<&str>, _>("granted_fence").is_some()
    }

    /// Does what the TypeScript client does, with everything prepared: eight round trips and five.
    pub(crate) async fn as_typescript(&mut self, key: &str) {
        let id = LockId::mint().unwrap();
        assert!(self.typescript_acquire(key, id).await);
        self.typescript_release(id).await;
    }

    /// Tries to acquire a key as the TypeScript client does, and returns whether it was granted.
    pub(crate) async fn typescript_acquire(&mut self, key: &str, id: LockId) -> bool {
        let fence_key = format!("fence:{key}");
        self.plain("BEGIN").await;
        let now = self.number(include_str!("sql/typescript_now.sql"), &[]).await;
        self.run(include_str!("sql/typescript_turn.sql"), &[key]).await;
        if self.run(include_str!("sql/typescript_read.sql"), &[key]).await > 0 {
            self.plain("ROLLBACK").await;
            return false;
        }
        self.run(include_str!("sql/typescript_counter.sql"), &[&fence_key, key]).await;
        let count = include_str!("sql/typescript_count.sql");
        let fence = format!("{:015}", self.number(count, &[&fence_key]).await);
        let upsert = sqlx::query(include_str!("sql/typescript_upsert.sql"));
        let upsert = upsert.bind(key).bind(id.as_str()).bind(now + 30_000).bind(now).bind(fence);
        self.connection.execute(upsert).await.unwrap();
        self.plain("COMMIT").await;
        true
    }

    /// Releases as the TypeScript client does.
    pub(crate) async fn typescript_release(&mut self, id: LockId) {
        let id = id.as_str();
        self.plain("BEGIN").await;
        self.number(include_str!("sql/typescript_now.sql"), &[]).await;
        assert_eq!(self.run(include_str!("sql/typescript_find.sql"), &[id]).await, 1);
        self.run(include_str!("sql/typescript_delete.sql"), &[id]).await;
        self.plain("COMMIT").await;
    }

    pub(crate) async fn plain(&mut self, sql: &'static str) {
        self.connection.execute(sql).await.unwrap();
    }

    /// Runs a statement and returns the number of its rows.
    pub(crate) async fn run(&mut self, sql: &'static str, texts: &[&str]) -> usize {
        bound(sql, texts).fetch_all(&mut self.connection).await.unwrap().len()
    }

    async fn number(&mut self, sql: &'static str, texts: &[&str]) -> i64 {
        bound(sql, texts).fetch_one(&mut self.connection).await.unwrap().get(0)
    }
}

fn bound<'t>(
    sql: &'static str,
    texts: &[&'t str],
) -> sqlx::query::Query<'t, sqlx::Postgres, PgArguments> {
    texts.iter().fold(sqlx::query(sql), |query, text| query.bind(*text))
}

fn sql(text: &str) -> SqlStr {
    AssertSqlSafe(std::sync::Arc::<str>::from(text)).into_sql_str()
}
