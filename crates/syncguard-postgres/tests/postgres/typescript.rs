//! The tables as a TypeScript client creates them, and the conditions for changing them.

use std::{sync::Arc, time::Duration};

use sqlx::Row;
use syncguard_core::{
    ErrorKind, Holder, Owner,
    backend::{AcquireOutcome, ListRequest, LockBackend, Severity},
};
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::{
    operations::{LONG, ask, error_of, extended, granted, is_locked, released},
    server::PostgresServer,
};

use crate::{Foreign, Names, shared};

pub(crate) const TABLES: &str = "
    CREATE TABLE {locks} (key TEXT PRIMARY KEY, lock_id TEXT NOT NULL, expires_at_ms BIGINT NOT NULL,
        acquired_at_ms BIGINT NOT NULL, fence TEXT NOT NULL, user_key TEXT NOT NULL);
    CREATE UNIQUE INDEX idx_{locks}_lock_id ON {locks} (lock_id);
    CREATE INDEX idx_{locks}_expires ON {locks} (expires_at_ms);
    CREATE TABLE {counters} (fence_key TEXT PRIMARY KEY, fence BIGINT NOT NULL DEFAULT 0,
        key_debug TEXT);
    INSERT INTO {locks} VALUES ('theirs', 'abcdefghijklmnopqrstuv', 9e15, 1, '000000000000007',
        'theirs')";

/// How a TypeScript client finds a lock: all columns, by a prepared statement.
const FIND: &str = "SELECT * FROM {locks} WHERE lock_id = $1 FOR UPDATE";

pub(crate) fn with_names(sql: &str, names: &Names) -> String {
    sql.replace("{locks}", &names.locks).replace("{counters}", &names.counters)
}

struct Scene {
    server: Arc<PostgresServer>,
    names: Names,
    foreign: Foreign,
}

impl Scene {
    async fn set() -> Self {
        let (server, names) = (shared().await, Names::fresh());
        let mut foreign = Foreign::open(&server.url()).await;
        foreign.run(&with_names(TABLES, &names)).await;
        Self { server, names, foreign }
    }

    async fn connect(&self) -> PostgresBackend {
        self.names.connect(&self.server.url()).await
    }

    /// Counts the columns of the lock table.
    async fn columns(&mut self) -> i64 {
        let sql = "SELECT count(*) FROM information_schema.columns WHERE table_name = '{locks}'";
        self.foreign.number(&with_names(sql, &self.names)).await
    }

    /// Counts the held and requested locks on the tables that block readers or writers.
    async fn strong_locks(&mut self) -> i64 {
        let sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'relation'
            AND relation IN ('{locks}'::regclass, '{counters}'::regclass)
            AND mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')";
        self.foreign.number(&with_names(sql, &self.names)).await
    }

    /// Opens a transaction that has read and written both tables.
    async fn user(&self) -> Foreign {
        let mut user = Foreign::open(&self.server.url()).await;
        let sql = "BEGIN; UPDATE {locks} SET fence = fence; UPDATE {counters} SET fence = fence;
            SELECT * FROM {locks}, {counters}";
        user.run(&with_names(sql, &self.names)).await;
        user
    }
}

async fn holder(backend: &PostgresBackend, text: &str) -> Holder {
    match backend.acquire(&ask(text, LONG)).await.unwrap() {
        AcquireOutcome::Contended { holder: Some(holder) } => holder,
        outcome => panic!("{outcome:?}"),
    }
}

async fn warnings(backend: &PostgresBackend) -> Vec<String> {
    let findings = backend.check().await.unwrap();
    assert!(findings.iter().all(|finding| finding.severity == Severity::Warning), "{findings:?}");
    findings.into_iter().map(|finding| finding.setting.into_owned()).collect()
}

#[tokio::test]
async fn connecting_changes_no_existing_table_and_does_not_wait_for_its_users() {
    let mut scene = Scene::set().await;
    let mut user = scene.user().await;
    let backend = scene.connect().await;
    assert_eq!((scene.columns().await, scene.strong_locks().await), (6, 0));
    assert!(is_locked(&backend, "theirs").await);
    user.run("COMMIT").await;
    assert_eq!(scene.columns().await, 6);
}

#[tokio::test]
async fn each_operation_works_with_the_six_columns_except_for_the_owner() {
    let mut scene = Scene::set().await;
    let backend = scene.connect().await;
    assert_eq!(warnings(&backend).await, ["lock table without owner columns"]);
    assert!(holder(&backend, "theirs").await.silent);

    let request = ask("ours", LONG).with_owner(Owner::new("ci-7").ok());
    assert_eq!(granted(&backend, &request).await.fence.number(), 1);
    let holder = holder(&backend, "ours").await;
    assert_eq!((holder.owner, holder.silent), (None, true), "it may be anyone's");
    assert!(extended(&backend, &request).await);
    let found = backend.lookup(&request.lock_id.into()).await.unwrap().unwrap();
    assert_eq!((found.owner, found.lock_id), (None, request.lock_id));
    assert!(backend.lookup(&request.key.clone().into()).await.unwrap().is_some());
    assert_eq!(backend.list(&ListRequest::new("")).await.unwrap().locks.len(), 2);
    assert!(released(&backend, &request).await);
    assert!(backend.force_release(&ask("theirs", LONG).key).await.unwrap().is_some());
    let taken = ask("theirs", LONG);
    granted(&backend, &taken).await;
    backend.abandon(taken.lock_id, &taken.key).await.unwrap();
    error_of(backend.acquire(&taken).await, ErrorKind::Aborted);
    assert_eq!(backend.prune(Duration::ZERO).await.unwrap(), 0);
    assert_eq!(scene.columns().await, 6);
}

#[tokio::test]
async fn a_schema_step_that_would_wait_for_a_reader_times_out_and_leaves_no_lock_request() {
    let mut scene = Scene::set().await;
    let config = scene.names.config(&scene.server.url());
    let mut reader = Foreign::open(&scene.server.url()).await;
    reader.run(&with_names("BEGIN; SELECT * FROM {locks}", &scene.names)).await;
    let error =
        error_of(PostgresBackend::setup_schema(&config).await, ErrorKind::ServiceUnavailable);
    assert!(error.to_string().contains("lock timeout") && !error.may_have_applied(), "{error}");
    assert_eq!((scene.columns().await, scene.strong_locks().await), (6, 0));
    reader.run("COMMIT").await;

    PostgresBackend::setup_schema(&config).await.unwrap();
    assert_eq!(scene.columns().await, 14);
    let backend = PostgresBackend::connect(config).await.unwrap();
    assert_eq!(warnings(&backend).await, [""; 0]);
    let request = ask("ours", LONG).with_owner(Owner::new("ci-7").ok());
    granted(&backend, &request).await;
    let ours = holder(&backend, "ours").await;
    assert_eq!((ours.owner.unwrap().as_str(), ours.silent), ("ci-7", false));
    assert!(holder(&backend, "theirs").await.silent);
    assert_eq!(backend.list(&ListRequest::new("")).await.unwrap().locks.len(), 2, "rows are kept");
}

/// The text of a migration contains its lock timeout.
#[tokio::test]
async fn the_text_for_migrations_times_out_as_well() {
    let mut scene = Scene::set().await;
    let config = scene.names.config(&scene.server.url());
    let text = config.schema_sql().unwrap();
    let mut reader = Foreign::open(&scene.server.url()).await;
    reader.run(&with_names("BEGIN; SELECT * FROM {locks}", &scene.names)).await;
    let mut migration = Foreign::open(&scene.server.url()).await;
    let refused = sqlx::raw_sql(sqlx::AssertSqlSafe(text.as_str())).execute(&mut migration.0).await;
    let code = refused.unwrap_err().as_database_error().unwrap().code().unwrap().into_owned();
    assert_eq!((code.as_str(), scene.strong_locks().await), ("55P03", 0));
    reader.run("COMMIT").await;
    migration.run(&text).await;
    assert_eq!(scene.columns().await, 14);
}

#[tokio::test]
async fn adding_columns_fails_a_running_typescript_client_once_and_a_rust_client_never() {
    let mut scene = Scene::set().await;
    let running = scene.connect().await;
    let request = ask("ours", LONG);
    granted(&running, &request).await;
    let mut peer = Foreign::open(&scene.server.url()).await;
    let find = with_names(FIND, &scene.names);
    let mut found = async || {
        let query = sqlx::query(sqlx::AssertSqlSafe(find.as_str())).bind("abcdefghijklmnopqrstuv");
        query.fetch_all(&mut peer.0).await.map(|rows| rows[0].get::<String, _>("key"))
    };
    assert_eq!(found().await.unwrap(), "theirs");
    PostgresBackend::setup_schema(&scene.names.config(&scene.server.url())).await.unwrap();
    assert_eq!(scene.columns().await, 14);
    assert!(extended(&running, &request).await && released(&running, &request).await);
    granted(&running, &ask("again", LONG)).await;
    let error = found().await.unwrap_err().to_string();
    assert!(error.contains("cached plan must not change result type"), "{error}");
}
