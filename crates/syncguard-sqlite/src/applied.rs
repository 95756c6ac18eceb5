//! Tests that an error that reports "not applied" is true.
//!
//! Each fault occurs in the statement that grants, as late as SQLite allows.

use std::{path::PathBuf, sync::Arc};

use sqlx::{
    ConnectOptions, Row,
    sqlite::{SqliteConnectOptions, SqliteConnection},
};
use syncguard_core::{
    Error, LockId, LockKey, Ttl,
    backend::{AcquireOutcome, AcquireRequest, Effect},
};
use tempfile::TempDir;

use crate::{
    SqliteConfig, acquire,
    config::Target,
    error::Failure,
    statement::Statement,
    store::Store,
    turn::Rank,
    work::Work,
    worker::{Ticket, Worker},
};

struct Fixture {
    directory: TempDir,
    foreign: SqliteConnection,
}

impl Fixture {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("locks.db");
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
        Self { directory, foreign: options.connect().await.unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("locks.db")
    }

    async fn store(&self) -> Store {
        Store::open(Target::try_from(SqliteConfig::new(self.path())).unwrap()).await.unwrap()
    }

    async fn run(&mut self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&mut self.foreign).await.unwrap();
    }

    async fn is_stored(&mut self, request: &AcquireRequest) -> bool {
        let query = sqlx::query("SELECT count(*) FROM syncguard_locks WHERE lock_id = ?");
        let query = query.bind(request.lock_id.as_str().to_owned());
        let count: i64 = query.fetch_one(&mut self.foreign).await.unwrap().get(0);
        count > 0
    }

    fn error(&self, failure: Failure) -> Error {
        failure.into_error(&self.path())
    }
}

fn request(key: &str) -> AcquireRequest {
    AcquireRequest::new(LockKey::new(key).unwrap(), LockId::mint().unwrap(), Ttl::default())
}

async fn try_acquire(store: &Store, request: &AcquireRequest) -> Result<AcquireOutcome, Failure> {
    acquire::acquire(store, &Ticket::new(Rank::Other), request).await
}

#[tokio::test]
async fn a_trigger_or_commit_error_is_not_reported_as_unapplied_if_the_grant_is_stored() {
    const CHILD: &str = "
        CREATE TABLE parent (id INTEGER PRIMARY KEY);
        CREATE TABLE child (id INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
        CREATE TRIGGER planted AFTER INSERT ON syncguard_locks
            BEGIN INSERT INTO child VALUES (7); END";
    const ABORT: &str = "CREATE TRIGGER planted AFTER INSERT ON syncguard_locks
        BEGIN SELECT RAISE(ABORT, 'planted'); END";
    const FAIL: &str = "CREATE TRIGGER planted AFTER INSERT ON syncguard_locks
        BEGIN SELECT RAISE(FAIL, 'planted'); END";
    const ROLLBACK: &str = "CREATE TRIGGER planted AFTER INSERT ON syncguard_locks
        BEGIN SELECT RAISE(ROLLBACK, 'planted'); END";
    let mut kept = 0;
    for fault in [CHILD, ABORT, FAIL, ROLLBACK] {
        let mut fixture = Fixture::new().await;
        let store = fixture.store().await;
        fixture.run(fault).await;
        let request = request("key");
        let failure = try_acquire(&store, &request).await.expect_err("the fault did not strike");
        let stored = fixture.is_stored(&request).await;
        let error = fixture.error(failure);
        assert!(error.may_have_applied() || !stored, "{error}");
        kept += u32::from(stored);
    }
    assert_eq!(kept, 1, "FAIL alone keeps what the statement did");
}

#[tokio::test]
async fn a_full_disk_is_not_reported_as_unapplied_if_the_grant_is_stored() {
    let mut fixture = Fixture::new().await;
    let store = fixture.store().await;
    let ticket = Ticket::new(Rank::Other);
    store.writer.rows(Statement::new("PRAGMA max_page_count = 1"), &ticket).await.unwrap();
    let mut failed = 0;
    for number in 0..400 {
        let request = request(&format!("{number}{}", "x".repeat(400)));
        if let Err(failure) = try_acquire(&store, &request).await {
            let stored = fixture.is_stored(&request).await;
            let error = fixture.error(failure);
            assert!(error.may_have_applied() || !stored, "{error}");
            failed += 1;
            break;
        }
    }
    assert_eq!(failed, 1, "the disk was never full");
}

#[tokio::test]
async fn a_commit_that_is_blocked_by_a_reader_stores_nothing() {
    let mut fixture = Fixture::new().await;
    drop(fixture.store().await);
    // Without a write-ahead log, as on a file system without shared memory, a commit waits for
    // readers.
    let mode = async |fixture: &mut Fixture| -> String {
        let query = sqlx::query("PRAGMA journal_mode = DELETE");
        query.fetch_one(&mut fixture.foreign).await.map_or_else(|_| String::new(), |row| row.get(0))
    };
    // The connections of the store are closed by their own threads.
    while mode(&mut fixture).await != "delete" {
        tokio::task::yield_now().await;
    }
    fixture.run("BEGIN; SELECT * FROM syncguard_locks").await;
    let mut writer = SqliteConnectOptions::new().filename(fixture.path()).connect().await.unwrap();
    sqlx::raw_sql("PRAGMA busy_timeout = 0").execute(&mut writer).await.unwrap();
    let request = request("key");
    let statement = Statement::new(include_str!("sql/acquire.sql"))
        .text(request.key.as_str())
        .text(request.lock_id.as_str())
        .text_or_null(None)
        .integer(30_000)
        .integer(1_000)
        .integer(1_000_000)
        .integer(0);
    let source = statement.run(&mut writer).await.expect_err("the reader was not in the way");
    let failure = Failure::Driver(source, Effect::MayHaveApplied);
    assert!(failure.is_busy(), "{failure}");
    assert!(!fixture.error(failure).may_have_applied());
    fixture.run("COMMIT").await;
    assert!(!fixture.is_stored(&request).await);
}

#[tokio::test]
async fn a_request_that_fails_after_its_grant_may_have_applied() {
    let mut fixture = Fixture::new().await;
    let worker = Worker::start().unwrap();
    let store = Arc::new(fixture.store().await);
    let request = request("key");
    let asked = request.clone();
    let granted_then_panics = worker.call(Rank::Other, |ticket| async move {
        let _ = acquire::acquire(&store, &ticket, &asked).await?;
        panic!("a planted panic");
        #[expect(unreachable_code, reason = "it names the type of the outcome")]
        Ok(())
    });
    let failure = granted_then_panics.await.unwrap_err();
    assert!(fixture.is_stored(&request).await, "the fault struck too early");
    assert!(fixture.error(failure).may_have_applied());
}
