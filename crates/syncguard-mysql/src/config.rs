//! Configuration of the backend.

use std::{fmt, str::FromStr, time::Duration};

use sqlx::mysql::MySqlConnectOptions;
use syncguard_core::{
    Error, Operation, UnsafeSettings,
    address::{check_parameters, check_port, unbracketed},
    backend::Counters,
    pool::MIN_SIZE,
};

use crate::{error::Failure, names::Table, sql};

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
/// use syncguard_mysql::{MysqlBackend, MysqlConfig};
///
/// # async fn example() -> Result<(), syncguard_core::Error> {
/// let config = MysqlConfig::from_url("mysql://app:secret@db.internal/app?ssl-mode=VERIFY_IDENTITY")?
///     .table("billing_locks")
///     .statement_timeout(Duration::from_secs(2))
///     .unsafe_settings(UnsafeSettings::Refuse);
/// let backend = MysqlBackend::connect(config).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MysqlConfig {
    pub(crate) options: Box<MySqlConnectOptions>,
    pub(crate) table: String,
    pub(crate) max_connections: u32,
    pub(crate) connect_timeout: Duration,
    pub(crate) statement_timeout: Duration,
    pub(crate) lock_timeout: Duration,
    pub(crate) missing: Missing,
    pub(crate) counters: Counters,
    pub(crate) unsafe_settings: UnsafeSettings,
}

/// What to do if the table does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Create,
    Refuse,
}

impl MysqlConfig {
    /// The default name of the table.
    pub const DEFAULT_TABLE: &'static str = "syncguard_locks";

    /// The default maximum number of connections: 10.
    pub const DEFAULT_MAX_CONNECTIONS: u32 = 10;

    /// The default limit on waiting for a connection: 4 seconds.
    pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

    /// The default limit on how long a statement may run: 5 seconds.
    pub const DEFAULT_STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

    /// The default limit on how long a statement may wait for a lock of the server: 4 seconds.
    pub const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(4);

    /// Configures a connection by its address:
    /// `mysql://[user[:password]@]host[:port]/database[?ssl-mode=…]`, or the same with `mariadb`.
    /// For a connection to another host, set `ssl-mode=VERIFY_IDENTITY`: by default the driver
    /// falls back to plaintext if the server declines TLS.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](syncguard_core::ErrorKind::InvalidArgument) if `url` is not such an
    /// address, or has a parameter that the driver does not know. The message names that parameter,
    /// and repeats nothing else, because the address may hold a password.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        parse(url).map(Self::from_options).map_err(refused)
    }

    /// Uses the driver's options, with the caller's own addresses, credentials and TLS. They must
    /// name a database.
    ///
    /// The settings that the guarantees depend on are set for each connection, overriding the
    /// options: the character set, the time zone, the modes, the isolation level and the timeouts.
    pub fn from_options(options: MySqlConnectOptions) -> Self {
        Self {
            options: Box::new(options),
            table: Self::DEFAULT_TABLE.to_owned(),
            max_connections: Self::DEFAULT_MAX_CONNECTIONS,
            connect_timeout: Self::DEFAULT_CONNECT_TIMEOUT,
            statement_timeout: Self::DEFAULT_STATEMENT_TIMEOUT,
            lock_timeout: Self::DEFAULT_LOCK_TIMEOUT,
            missing: Missing::Create,
            counters: Counters::default(),
            unsafe_settings: UnsafeSettings::default(),
        }
    }

    /// Names the table, in the database of the address: 1 to 57 letters, digits and underscores of
    /// ASCII, not beginning with a digit. All clients that share locks must use the same name. The
    /// table `<name>_schema` records the revision of this one.
    #[must_use]
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.table = name.into();
        self
    }

    /// Disables creating the table. Connecting then fails if it is missing or incomplete.
    #[must_use]
    pub fn existing_table_only(mut self) -> Self {
        self.missing = Missing::Refuse;
        self
    }

    /// Sets the maximum number of connections. It must be at least 2, because one is kept for
    /// extends and releases.
    ///
    /// Each connection does one operation at a time; further operations queue. A connection that
    /// ends sessions whose answer did not arrive is not counted.
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

    /// Sets how long a statement may run. MariaDB cancels a statement that takes longer; MySQL does
    /// so only if the statement waits for a lock. Half a second later, the outcome is unknown, and
    /// the session is ended from another connection.
    #[must_use]
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// Sets how long a statement may wait for a lock of the server, in whole seconds, for example
    /// until another acquire of the same key is committed. It never waits for the holder of a lock.
    #[must_use]
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Makes the fence of each grant at least the server's Unix milliseconds. Without this, the
    /// fences of a new key start at 1.
    ///
    /// If all clients of the table set this, counters that are no longer used can be
    /// [retired](syncguard_core::LockManager::retire_counters).
    #[must_use]
    pub fn seed_new_counters(mut self) -> Self {
        self.counters = Counters::Seeded;
        self
    }

    /// Sets how unsafe settings of the server are handled.
    #[must_use]
    pub fn unsafe_settings(mut self, unsafe_settings: UnsafeSettings) -> Self {
        self.unsafe_settings = unsafe_settings;
        self
    }

    /// Returns the statements of
    /// [`MysqlBackend::setup_schema`](crate::MysqlBackend::setup_schema), for applications with
    /// their own migrations. They can be run any number of times.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](syncguard_core::ErrorKind::InvalidArgument) if the table name is
    /// invalid.
    pub fn schema_sql(&self) -> Result<String, Error> {
        let table = Table::new(&self.table).map_err(refused)?;
        Ok(sql::schema(&table))
    }

    /// Describes where the locks are, without credentials.
    pub(crate) fn server(&self) -> String {
        let place = match self.options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", self.options.get_host(), self.options.get_port()),
        };
        match self.options.get_database() {
            Some(database) => format!("{place}/{database}"),
            None => place,
        }
    }

    /// Fails if a value is invalid.
    pub(crate) fn validate(&self) -> Result<(), Failure> {
        require(self.options.get_database().is_some(), || {
            "the address names no database".to_owned()
        })?;
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
        ] {
            require((MIN_TIMEOUT..=MAX_TIMEOUT).contains(&timeout), || {
                format!("{name} is {timeout:?}; it must be 10 ms to 1 h")
            })?;
        }
        let limit = self.lock_timeout;
        let is_whole = limit.as_secs() > 0 && limit.subsec_nanos() == 0;
        require(is_whole && limit <= MAX_TIMEOUT, || {
            format!("lock_timeout is {limit:?}; it must be whole seconds, at most 1 h")
        })
    }
}

/// Refuses a configuration that breaks a rule.
fn require(holds: bool, rule: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::Config(rule())) }
}

/// The parameters that the driver knows.
const PARAMETERS: [&str; 14] = [
    "sslmode",
    "ssl-mode",
    "sslca",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "charset",
    "collation",
    "statement-cache-capacity",
    "socket",
    "timezone",
    "time-zone",
];

/// The driver accepts any scheme, drops unknown parameters, and leaves the brackets on an IPv6
/// literal.
fn parse(url: &str) -> Result<MySqlConnectOptions, Failure> {
    let rule = "the address is not of the form mysql://[user[:password]@]host[:port]/database";
    let refused = || Failure::Config(rule.to_owned());
    if !(url.starts_with("mysql://") || url.starts_with("mariadb://")) {
        return Err(refused());
    }
    check_parameters(url, &PARAMETERS, |parameter| {
        MySqlConnectOptions::from_str(&format!("mysql://host?{parameter}")).is_ok()
    })?;

    check_port(url)?;
    let options = MySqlConnectOptions::from_str(url).map_err(|_| refused())?;
    let host = unbracketed(options.get_host()).to_owned();
    Ok(options.host(&host))
}

/// Converts a failure to connect into the core's error.
fn refused(failure: Failure) -> Error {
    failure.into_error().with_operation(Operation::Connect)
}

impl fmt::Debug for MysqlConfig {
    /// Omits the address, because it may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MysqlConfig")
            .field("table", &self.table)
            .field("max_connections", &self.max_connections)
            .field("connect_timeout", &self.connect_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("lock_timeout", &self.lock_timeout)
            .field("missing", &self.missing)
            .field("counters", &self.counters)
            .field("unsafe_settings", &self.unsafe_settings)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use syncguard_core::ErrorKind;

    use super::{MysqlConfig, PARAMETERS, parse};

    #[test]
    fn what_is_no_address_is_refused_without_being_repeated() {
        for bad in ["", "localhost", "postgres://u:secret@h", "mysql://u:secret@h:port"] {
            let error = MysqlConfig::from_url(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
    }

    #[test]
    fn a_literal_of_ipv6_is_a_host_without_brackets() {
        for url in ["mysql://[::1]/d", "mariadb://u@[::1]:7/d?ssl-mode=REQUIRED"] {
            assert_eq!(parse(url).unwrap().get_host(), "::1", "{url}");
        }
    }

    #[test]
    fn each_parameter_of_the_driver_is_known_and_no_other() {
        let value = |name| match name {
            "sslmode" | "ssl-mode" => "VERIFY_IDENTITY",
            _ => "1",
        };
        let query: Vec<_> = PARAMETERS.map(|name| format!("{name}={}", value(name))).into();
        MysqlConfig::from_url(&format!("mysql://h/d?{}", query.join("&"))).unwrap();
        for (bad, name) in [
            ("sslmod=VERIFY_IDENTITY", "\"sslmod\"; did you mean \"sslmode\"?"),
            ("ssl-mode=verify-full", "parameter \"ssl-mode\""),
            ("allowPublicKeyRetrieval=secret", "\"allowPublicKeyRetrieval\""),
        ] {
            let error = MysqlConfig::from_url(&format!("mysql://u:secret@h/d?{bad}")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad}");
            let text = format!("{error} {error:?}");
            assert!(text.contains(name) && !text.contains("secret"), "{text}");
            assert!(!text.contains("verify-full"), "{text}");
        }
    }

    #[test]
    fn a_password_shows_in_no_log() {
        for scheme in ["mysql", "mariadb"] {
            let config = MysqlConfig::from_url(&format!("{scheme}://u:secret@h/d")).unwrap();
            assert!(!format!("{config:?}").contains("secret"));
        }
    }

    #[test]
    fn values_that_break_a_rule_are_refused() {
        let config = || MysqlConfig::from_url("mysql://h/d").unwrap();
        for bad in [
            MysqlConfig::from_url("mysql://h").unwrap(),
            config().max_connections(0),
            config().max_connections(1),
            config().connect_timeout(Duration::ZERO),
            config().statement_timeout(Duration::from_millis(9)),
            config().lock_timeout(Duration::from_millis(1_500)),
            config().lock_timeout(Duration::ZERO),
            config().lock_timeout(Duration::MAX),
        ] {
            assert!(bad.validate().is_err(), "{bad:?}");
        }
        assert!(config().validate().is_ok());
    }
}
