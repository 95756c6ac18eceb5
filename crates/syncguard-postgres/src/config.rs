//! Configuration of the backend.

use std::{fmt, time::Duration};

use sqlx::{PgPool, postgres::PgConnectOptions};
use syncguard_core::{Error, Operation, UnsafeSettings, backend::Counters, pool::MIN_SIZE};

use crate::{address, error::Failure, names::Tables, sql::SchemaTexts};

/// The shortest timeout: below it, a server that is not idle is taken for one that is down.
const MIN_TIMEOUT: Duration = Duration::from_millis(10);

/// The longest timeout.
const MAX_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// Configures which database keeps the locks and how the backend uses it.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
/// use syncguard_core::UnsafeSettings;
/// use syncguard_postgres::{PostgresBackend, PostgresConfig};
///
/// # async fn example() -> Result<(), syncguard_core::Error> {
/// let config = PostgresConfig::from_url("postgres://app:secret@db.internal/app?sslmode=verify-full")?
///     .tables("billing_locks", "billing_fences")
///     .statement_timeout(Duration::from_secs(2))
///     .unsafe_settings(UnsafeSettings::Refuse);
/// let backend = PostgresBackend::connect(config).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PostgresConfig {
    pub(crate) origin: Origin,
    pub(crate) locks: String,
    pub(crate) counters: String,
    pub(crate) max_connections: u32,
    pub(crate) connect_timeout: Duration,
    pub(crate) statement_timeout: Duration,
    pub(crate) lock_timeout: Duration,
    pub(crate) pooler: Pooler,
    pub(crate) listening: Listening,
    pub(crate) missing: Missing,
    pub(crate) counters_from: Counters,
    pub(crate) unsafe_settings: UnsafeSettings,
}

#[derive(Clone)]
pub(crate) enum Origin {
    Options(Box<PgConnectOptions>),
    Pool(PgPool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pooler {
    None,
    Transaction,
}

/// Where to listen for releases.
#[derive(Clone)]
pub(crate) enum Listening {
    /// At the server of the locks, unless a transaction pooler is in between.
    Default,
    At(Box<PgConnectOptions>),
    Nowhere,
}

/// What to do if the tables do not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Create,
    Refuse,
}

impl PostgresConfig {
    /// The default name of the lock table, the same as in the TypeScript SyncGuard.
    pub const DEFAULT_LOCKS: &'static str = "syncguard_locks";

    /// The default name of the table of fence counters, the same as in the TypeScript SyncGuard.
    pub const DEFAULT_COUNTERS: &'static str = "syncguard_fence_counters";

    /// The default maximum number of connections: 10.
    pub const DEFAULT_MAX_CONNECTIONS: u32 = 10;

    /// The default limit on waiting for a connection: 4 seconds.
    pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

    /// The default limit on how long a statement may run: 5 seconds.
    pub const DEFAULT_STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

    /// The default limit on how long a statement may wait for a lock of the server: 4 seconds.
    pub const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(4);

    /// Configures a connection by its address:
    /// `postgres://[user[:password]@]host[:port][/database][?sslmode=…]`.
    ///
    /// For a connection to another host, set `sslmode=verify-full`: by default the driver falls
    /// back to plaintext if the server declines TLS.
    ///
    /// Whatever the address omits is read from the environment (`PGUSER`, `PGPASSWORD` and the
    /// like) and from the password file, as PostgreSQL's own clients do.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](syncguard_core::ErrorKind::InvalidArgument) if `url` is not such an
    /// address, or has a parameter that the driver does not know. The message names that parameter,
    /// and repeats nothing else, because the address may hold a password.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        address::parse(url).map(Self::from_options).map_err(refused)
    }

    /// Uses the driver's options, with the caller's own addresses, credentials and TLS.
    ///
    /// The settings that the guarantees depend on are set in addition, for each connection: the
    /// timeouts, read committed, synchronous commit.
    pub fn from_options(options: PgConnectOptions) -> Self {
        Self::new(Origin::Options(Box::new(options)))
    }

    /// Uses a pool that the caller shares with other work.
    ///
    /// This saves connections, at a cost:
    ///
    /// - Each operation takes one more round trip, because the driver's pool tests each connection
    ///   that is returned to it, and another one unless the pool was built with
    ///   `test_before_acquire(false)`.
    /// - Operations queue for a connection behind whatever else the pool is used for. A job that
    ///   holds a connection of the pool while it waits for a lock can keep the holder from
    ///   releasing it. Among the operations of the backend, extends go first.
    /// - The timeouts, read committed and synchronous commit are set for each transaction, in the
    ///   text of the statement, whatever the sessions of the pool have set. Statements are
    ///   therefore not prepared, and the server plans each of them anew, which takes some hundred
    ///   microseconds.
    /// - If a caller's `begin` was cancelled, a connection may be inside a transaction that no one
    ///   ends. Each statement detects that, changes nothing, closes the connection, logs a warning,
    ///   and is run on another connection.
    ///
    /// Waiters listen on a separate connection, which is opened with the pool's options and not
    /// counted by the pool.
    pub fn from_pool(pool: PgPool) -> Self {
        Self::new(Origin::Pool(pool))
    }

    fn new(origin: Origin) -> Self {
        Self {
            origin,
            locks: Self::DEFAULT_LOCKS.to_owned(),
            counters: Self::DEFAULT_COUNTERS.to_owned(),
            max_connections: Self::DEFAULT_MAX_CONNECTIONS,
            connect_timeout: Self::DEFAULT_CONNECT_TIMEOUT,
            statement_timeout: Self::DEFAULT_STATEMENT_TIMEOUT,
            lock_timeout: Self::DEFAULT_LOCK_TIMEOUT,
            pooler: Pooler::None,
            listening: Listening::Default,
            missing: Missing::Create,
            counters_from: Counters::default(),
            unsafe_settings: UnsafeSettings::default(),
        }
    }

    /// Names the two tables, in a schema that is on the search path: each 1 to 51 letters, digits
    /// and underscores of ASCII, not beginning with a digit. All clients that share locks must use
    /// the same names.
    #[must_use]
    pub fn tables(mut self, locks: impl Into<String>, counters: impl Into<String>) -> Self {
        (self.locks, self.counters) = (locks.into(), counters.into());
        self
    }

    /// Disables creating the tables. Connecting then fails if they are missing or incomplete.
    #[must_use]
    pub fn existing_tables_only(mut self) -> Self {
        self.missing = Missing::Refuse;
        self
    }

    /// Sets the maximum number of connections. It must be at least 2, because one is kept for
    /// extends and releases. With a caller's pool, that pool decides; a pool of a single connection
    /// keeps none.
    ///
    /// Each connection does one operation at a time; further operations queue. A connection that
    /// only listens is not counted, nor is one that ends sessions whose answer did not arrive.
    #[must_use]
    pub fn max_connections(mut self, count: u32) -> Self {
        self.max_connections = count;
        self
    }

    /// Sets how long an operation may wait for a connection. An operation that times out has
    /// changed nothing. An acquire that would wait for longer is refused at once; an extend waits
    /// for as long as its caller does.
    ///
    /// Keep the sum of this and the statement timeout below the request timeout of the lock layer
    /// (10 s by default).
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets how long a statement may run. The server cancels a statement that takes longer, which
    /// then has changed nothing. It does not cancel a commit that waits for a standby: half a
    /// second later the outcome is unknown, and the session is ended from another connection.
    /// Behind a pooler or in a caller's pool, where sessions cannot be distinguished, the
    /// connection stays in use for up to 90 s more.
    #[must_use]
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// Sets how long a statement may wait for a lock of the server, for example until another
    /// acquire of the same key is committed. It never waits for the holder of a lock.
    #[must_use]
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Connects through a pooler that assigns connections to single transactions, such as
    /// pgbouncer. Statements are not kept prepared, and no settings are requested when connecting.
    /// Waiters are not woken, unless there is [another way](Self::listen_url) to listen.
    #[must_use]
    pub fn pgbouncer(mut self) -> Self {
        self.pooler = Pooler::Transaction;
        self
    }

    /// Listens for releases at this address instead. It must lead to the same database, without a
    /// transaction pooler in between.
    ///
    /// # Errors
    ///
    /// The same as for [`from_url`](Self::from_url).
    pub fn listen_url(mut self, url: &str) -> Result<Self, Error> {
        self.listening = Listening::At(Box::new(address::parse(url).map_err(refused)?));
        Ok(self)
    }

    /// Disables listening for releases. Waiters then retry by their schedule and the holder's
    /// expiry.
    #[must_use]
    pub fn without_listening(mut self) -> Self {
        self.listening = Listening::Nowhere;
        self
    }

    /// Makes the fence of each grant at least the server's Unix milliseconds. Without this, the
    /// fences of a new key start at 1.
    ///
    /// If all clients of the tables set this, and none is a TypeScript client, counters that are no
    /// longer used can be [retired](syncguard_core::LockManager::retire_counters). An acquire in
    /// shared mode then sends one more statement in the same text, which is not prepared.
    #[must_use]
    pub fn seed_new_counters(mut self) -> Self {
        self.counters_from = Counters::Seeded;
        self
    }

    /// Sets how unsafe settings of the server are handled.
    #[must_use]
    pub fn unsafe_settings(mut self, unsafe_settings: UnsafeSettings) -> Self {
        self.unsafe_settings = unsafe_settings;
        self
    }

    /// Returns the statements of
    /// [`PostgresBackend::setup_schema`](crate::PostgresBackend::setup_schema), for applications
    /// with their own migrations. They can be run any number of times, as one transaction.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](syncguard_core::ErrorKind::InvalidArgument) if a table name is invalid.
    pub fn schema_sql(&self) -> Result<String, Error> {
        let tables = Tables::new(&self.locks, &self.counters).map_err(refused)?;
        let texts = SchemaTexts::new(&tables, self.lock_timeout, self.statement_timeout);
        Ok(texts.everything())
    }

    /// Describes where the locks are, without credentials.
    pub(crate) fn server(&self) -> String {
        match &self.origin {
            Origin::Options(options) => address::describe(options),
            Origin::Pool(pool) => address::describe(&pool.connect_options()),
        }
    }

    /// Fails if a value is invalid.
    pub(crate) fn validate(&self) -> Result<(), Failure> {
        let count = self.max_connections;
        require(usize::try_from(count).is_ok_and(|count| count >= MIN_SIZE), || {
            format!(
                "max_connections is {count}; it must be at least {MIN_SIZE}, because one connection \
                 is kept for extends and releases"
            )
        })?;
        for (name, timeout) in [
            ("connect_timeout", self.connect_timeout),
            ("statement_timeout", self.statement_timeout),
            ("lock_timeout", self.lock_timeout),
        ] {
            require((MIN_TIMEOUT..=MAX_TIMEOUT).contains(&timeout), || {
                format!("{name} is {timeout:?}; it must be 10 ms to 1 h")
            })?;
        }
        Ok(())
    }
}

/// Refuses a configuration that breaks a rule.
fn require(holds: bool, rule: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::Config(rule())) }
}

/// Converts a failure to connect into the core's error.
fn refused(failure: Failure) -> Error {
    failure.into_error().with_operation(Operation::Connect)
}

impl fmt::Debug for PostgresConfig {
    /// Omits the addresses, because they may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("locks", &self.locks)
            .field("counters", &self.counters)
            .field("max_connections", &self.max_connections)
            .field("connect_timeout", &self.connect_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("lock_timeout", &self.lock_timeout)
            .field("pooler", &self.pooler)
            .field("missing", &self.missing)
            .field("counters_from", &self.counters_from)
            .field("unsafe_settings", &self.unsafe_settings)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::PostgresConfig;

    #[test]
    fn a_password_shows_in_no_log() {
        let config = PostgresConfig::from_url("postgres://u:secret@h/d").unwrap();
        let config = config.listen_url("postgresql://u:secret@h/d").unwrap();
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn values_that_break_a_rule_are_refused() {
        let config = || PostgresConfig::from_url("postgres://h/d").unwrap();
        for bad in [
            config().max_connections(0),
            config().max_connections(1),
            config().connect_timeout(Duration::ZERO),
            config().statement_timeout(Duration::from_millis(9)),
            config().lock_timeout(Duration::MAX),
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
        assert!(config().validate().is_ok());
    }
}
