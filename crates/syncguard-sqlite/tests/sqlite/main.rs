//! The contract suite, and tests of what is specific to the SQLite backend: the file, its faults,
//! and what other processes do to it.

#![cfg(test)]

mod claims;
mod contract;
mod faults;
mod granting;
mod identity;
mod mutants;
mod opening;
mod operating;
mod permission;
mod queueing;
mod revisions;
mod runtimes;
mod sharing;
mod waiting;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Row,
    sqlite::{SqliteConnectOptions, SqliteConnection},
};
use syncguard_core::{
    Error, LockId, LockKey, ReleaseOutcome, Ttl,
    backend::{AcquireOutcome, AcquireRequest, Grant, LockBackend, LockRef},
};
use syncguard_sqlite::{SqliteBackend, SqliteConfig};
use tempfile::TempDir;

/// A database file in a temporary directory.
struct Scratch(TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Keeps the file in memory, if there is a file system for that, so that no write waits for the
    /// disk.
    fn in_memory() -> Self {
        tempfile::tempdir_in("/dev/shm").map_or_else(|_| Self::new(), Self)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("locks.db")
    }

    async fn open(&self) -> SqliteBackend {
        SqliteBackend::connect(SqliteConfig::new(self.path())).await.unwrap()
    }

    /// Opens a backend with a short busy timeout.
    async fn open_with_short_timeout(&self) -> SqliteBackend {
        let config = SqliteConfig::new(self.path()).busy_timeout(Duration::from_millis(200));
        SqliteBackend::connect(config).await.unwrap()
    }

    /// Opens the file like another program.
    async fn foreign(&self) -> Foreign {
        Foreign::open(&self.path()).await
    }
}

/// A connection of another program.
struct Foreign(SqliteConnection);

impl Foreign {
    async fn open(path: &Path) -> Self {
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
        Self(options.connect().await.unwrap())
    }

    async fn run(&mut self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&mut self.0).await.unwrap();
    }

    async fn number(&mut self, sql: &'static str) -> i64 {
        sqlx::query(sql).fetch_one(&mut self.0).await.unwrap().get(0)
    }

    async fn texts(&mut self, sql: &'static str) -> Vec<String> {
        let rows = sqlx::query(sql).fetch_all(&mut self.0).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Stores a record in place of all that have a lock id.
    async fn plant(&mut self, key: &str, columns: [&str; 5]) {
        self.run("DELETE FROM syncguard_locks WHERE lock_id IS NOT NULL").await;
        self.insert(key, columns).await;
    }

    /// Stores a record. The columns after the key (fence, lock id, owner, acquired, expires) are
    /// SQL literals.
    async fn insert(&mut self, key: &str, columns: [&str; 5]) {
        let values = columns.join(", ");
        let sql = format!("INSERT INTO syncguard_locks VALUES (?, {values})");
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(key.to_owned());
        query.execute(&mut self.0).await.unwrap();
    }

    /// Returns the columns of a record as SQL literals.
    async fn record(&mut self, key: &str) -> [String; 5] {
        let sql = "SELECT quote(fence), quote(lock_id), quote(owner), quote(acquired_at_ms),
            quote(expires_at_ms) FROM syncguard_locks WHERE key = ?";
        let row = sqlx::query(sql).bind(key.to_owned()).fetch_one(&mut self.0).await.unwrap();
        std::array::from_fn(|column| row.get(column))
    }

    /// Takes the write lock and holds it.
    async fn block_writers(&mut self) {
        self.run("BEGIN IMMEDIATE").await;
    }

    async fn unblock_writers(&mut self) {
        self.run("COMMIT").await;
    }
}

/// Waits until the last check of the files is too old, so that the next request checks them again.
async fn until_the_files_are_checked_again() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

fn key(text: &str) -> LockKey {
    LockKey::new(text).unwrap()
}

fn ttl(millis: u64) -> Ttl {
    Ttl::new(Duration::from_millis(millis)).unwrap()
}

/// Returns a request for a key under a new id.
fn request(text: &str) -> AcquireRequest {
    AcquireRequest::new(key(text), LockId::mint().unwrap(), Ttl::default())
}

async fn granted(backend: &SqliteBackend, request: &AcquireRequest) -> Grant {
    match backend.acquire(request).await.unwrap() {
        AcquireOutcome::Granted(grant) => grant,
        AcquireOutcome::Contended { holder } => panic!("held by {holder:?}"),
    }
}

async fn acquire_error(backend: &SqliteBackend, request: &AcquireRequest) -> Error {
    backend.acquire(request).await.unwrap_err()
}

fn lock_of(request: &AcquireRequest) -> LockRef {
    LockRef::new(request.lock_id, request.key.clone())
}

async fn release(backend: &SqliteBackend, request: &AcquireRequest) {
    let outcome = backend.release(&lock_of(request)).await.unwrap();
    assert_eq!(outcome, ReleaseOutcome::Released);
}

/// Acquires and releases a lock, and returns the fence.
async fn acquire_and_release(backend: &SqliteBackend, text: &str) -> u64 {
    let request = request(text);
    let grant = granted(backend, &request).await;
    release(backend, &request).await;
    grant.fence.number()
}
