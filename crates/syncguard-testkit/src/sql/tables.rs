//! What the cases need of a backend and its server.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fmt::Debug,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use syncguard_core::{Error, backend::LockBackend};

use crate::server::{Program, Site};

pub(super) const SHORT_TIMEOUT: Duration = Duration::from_millis(300);

/// The tables of one test, with the server that they are on and the backend that uses them.
pub trait Tables: Clone + Debug + Send + Sync + 'static {
    /// The kind of server.
    type Program: Program;
    /// The backend.
    type Backend: LockBackend + Clone;
    /// The configuration of the backend.
    type Config: Clone + Send + Sync;
    /// A connection of another program.
    type Foreign: Foreign;

    /// The column of the keys.
    const KEY: &'static str;
    /// The revision of the tables that the backend creates.
    const REVISION: i64 = 2;
    /// Counts the statements on the tables that wait at the server for the lock of a row.
    const WAITING: &'static str;

    /// Chooses tables that no other test uses.
    fn fresh() -> Self;

    /// Returns the server that the tests share unless they break it.
    fn shared() -> impl Future<Output = Site<Self::Program>> + Send;

    /// Returns the name of the table of the locks.
    fn locks(&self) -> &str;

    /// Configures a backend for these tables.
    fn config(&self, url: &str, settings: &[Setting]) -> Self::Config;

    /// Connects.
    fn open(config: Self::Config) -> impl Future<Output = Result<Self::Backend, Error>> + Send;

    /// Creates the tables, or brings them to the current revision.
    fn setup_schema(config: &Self::Config) -> impl Future<Output = Result<(), Error>> + Send;

    /// Returns the statements that create the tables.
    fn schema_sql(config: &Self::Config) -> String;

    /// Removes rows of grants that ended at least this long ago.
    fn prune(
        backend: &Self::Backend,
        older_than: Duration,
    ) -> impl Future<Output = Result<u64, Error>> + Send;

    /// Connects with the default settings.
    fn connect(&self, url: &str) -> impl Future<Output = Self::Backend> + Send {
        let config = self.config(url, &[]);
        async { Self::open(config).await.unwrap() }
    }

    /// Replaces `{locks}` and `{key}` in a statement.
    fn fill(&self, sql: &str) -> String {
        sql.replace("{locks}", self.locks()).replace("{key}", Self::KEY)
    }
}

/// A setting of a backend that is not the default.
#[derive(Clone, Copy, Debug)]
pub enum Setting {
    /// The maximum number of connections.
    MaxConnections(u32),
    /// How long a request waits for a connection.
    ConnectTimeout(Duration),
    /// How long a statement may take.
    StatementTimeout(Duration),
    /// How long a statement waits for a lock at the server.
    LockTimeout(Duration),
    /// No connection is opened to listen for releases. Has no effect on a backend that never does.
    WithoutListening,
    /// The tables are not created.
    ExistingTablesOnly,
}

/// A connection of another program.
pub trait Foreign: Sized + Send + Sync {
    /// Connects.
    fn open(url: &str) -> impl Future<Output = Self> + Send;

    /// Runs statements.
    fn run(&mut self, sql: &str) -> impl Future<Output = ()> + Send;

    /// Returns the number that a statement selects.
    fn number(&mut self, sql: &str) -> impl Future<Output = i64> + Send;
}

/// Returns a suffix for names on a server that other processes may use, earlier or at the same
/// time.
#[must_use]
pub fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let (process, now) = (std::process::id(), SystemTime::UNIX_EPOCH.elapsed().unwrap());
    format!("{}_{process}_{number}", now.as_millis())
}
