//! Configuration of the backend.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
use syncguard_core::{Error, ErrorKind, Operation, UnsafeSettings, backend::Counters};

use crate::error::Failure;

/// Configures which file keeps the locks and how the backend opens it.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
/// use syncguard_sqlite::{SqliteBackend, SqliteConfig};
///
/// # async fn example() -> Result<(), syncguard_core::Error> {
/// let config = SqliteConfig::new("/var/lib/app/locks.db")
///     .busy_timeout(Duration::from_secs(2))
///     .existing_only();
/// let backend = SqliteBackend::connect(config).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqliteConfig {
    pub(crate) path: PathBuf,
    busy_timeout: Duration,
    missing: Missing,
    counters: Counters,
    pub(crate) unsafe_settings: UnsafeSettings,
}

/// What to do if the file does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Create,
    Refuse,
}

impl SqliteConfig {
    /// The default limit on how long a statement waits for others: 5 seconds.
    pub const DEFAULT_BUSY_TIMEOUT: Duration = Duration::from_secs(5);

    /// The longest busy timeout: one hour. It bounds how late an acquire can take effect.
    pub const MAX_BUSY_TIMEOUT: Duration = Duration::from_secs(60 * 60);

    /// Configures the file, which is created if it is missing. Its directory is not created.
    ///
    /// A relative path is resolved against the working directory at the time of
    /// [`connect`](crate::SqliteBackend::connect).
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            busy_timeout: Self::DEFAULT_BUSY_TIMEOUT,
            missing: Missing::Create,
            counters: Counters::default(),
            unsafe_settings: UnsafeSettings::default(),
        }
    }

    /// Parses an address: `sqlite:path` or `sqlite://path`. The path is used literally: nothing is
    /// decoded, and there are no parameters.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidArgument`](syncguard_core::ErrorKind::InvalidArgument) if the address does
    /// not have this form.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        let path = url.strip_prefix("sqlite:").ok_or_else(|| {
            let error = Error::new(ErrorKind::InvalidArgument).with_operation(Operation::Connect);
            error.with_detail("the address is not of the form sqlite:path").not_applied()
        })?;
        Ok(Self::new(path.strip_prefix("//").unwrap_or(path)))
    }

    /// Sets how long an operation waits for its turn in this process, and then again for the
    /// database's write lock, until it fails with
    /// [`ServiceUnavailable`](syncguard_core::ErrorKind::ServiceUnavailable), having changed
    /// nothing. If it is zero, even tasks of one process fail when they compete.
    #[must_use]
    pub fn busy_timeout(self, busy_timeout: Duration) -> Self {
        Self { busy_timeout, ..self }
    }

    /// Disables creating the file. The tables are still created in it if they are missing.
    #[must_use]
    pub fn existing_only(self) -> Self {
        Self { missing: Missing::Refuse, ..self }
    }

    /// Makes the fence of each grant at least the host's Unix milliseconds. Without this, the fences
    /// of a new key start at 1.
    ///
    /// If all processes that use the file set this, counters that are no longer used can be
    /// [retired](syncguard_core::LockManager::retire_counters).
    #[must_use]
    pub fn seed_new_counters(self) -> Self {
        Self { counters: Counters::Seeded, ..self }
    }

    /// Sets how unsafe settings are handled: a network file system, or a file or directory that
    /// another user owns or that everyone may write.
    #[must_use]
    pub fn unsafe_settings(self, unsafe_settings: UnsafeSettings) -> Self {
        Self { unsafe_settings, ..self }
    }
}

/// A validated configuration, which connections are opened with.
#[derive(Debug)]
pub(crate) struct Target {
    /// Absolute, so that it means the same file after the process changed its directory.
    pub(crate) path: PathBuf,
    pub(crate) options: SqliteConnectOptions,
    pub(crate) busy_timeout: Duration,
    pub(crate) missing: Missing,
    pub(crate) counters: Counters,
}

impl TryFrom<SqliteConfig> for Target {
    type Error = Failure;

    fn try_from(config: SqliteConfig) -> Result<Self, Failure> {
        if config.busy_timeout > SqliteConfig::MAX_BUSY_TIMEOUT {
            let timeout = config.busy_timeout;
            return Err(Failure::Config(format!(
                "busy_timeout is {timeout:?}; it must be at most 1 h"
            )));
        }
        let path = file(&config.path)?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(config.missing == Missing::Create)
            // `SharedConnection` does the waiting, where it can be fair.
            .busy_timeout(Duration::ZERO)
            .disable_statement_logging();
        let SqliteConfig { busy_timeout, missing, counters, .. } = config;
        Ok(Self { path, options, busy_timeout, missing, counters })
    }
}

/// Makes a path absolute, and refuses a path that SQLite would not treat as a file.
fn file(path: &Path) -> Result<PathBuf, Failure> {
    let refuse = |rule: &str| Failure::Config(format!("the path {path:?} {rule}"));
    let text = path.to_str().ok_or_else(|| refuse("is not UTF-8"))?;
    if text.contains('\0') {
        return Err(refuse("has a NUL character"));
    }
    if text.is_empty() || text == ":memory:" {
        let rule = "is not a file: a database in memory belongs to one connection alone";
        return Err(refuse(rule));
    }
    if text.starts_with("file:") {
        return Err(refuse("is a URI; it must be a plain path"));
    }
    std::path::absolute(path).map_err(|_| refuse("is relative, and there is no working directory"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{SqliteConfig, Target};

    #[test]
    fn what_is_no_file_is_refused() {
        for bad in ["", ":memory:", "file:locks.db?mode=memory", "a\0b"] {
            assert!(Target::try_from(SqliteConfig::new(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_address_is_a_scheme_and_a_literal_path() {
        for (url, path) in [
            ("sqlite:locks.db", "locks.db"),
            ("sqlite://locks.db", "locks.db"),
            ("sqlite:///var/a ?%20b.db", "/var/a ?%20b.db"),
        ] {
            assert_eq!(SqliteConfig::from_url(url).unwrap(), SqliteConfig::new(path), "{url}");
        }
        assert!(SqliteConfig::from_url("/var/locks.db").is_err());
    }

    #[test]
    fn a_relative_path_is_bound_to_the_working_directory() {
        let target = Target::try_from(SqliteConfig::new("locks.db")).unwrap();
        assert_eq!(target.path, std::env::current_dir().unwrap().join("locks.db"));
    }

    #[test]
    fn a_busy_timeout_above_the_limit_is_refused() {
        let config = SqliteConfig::new("locks.db");
        let limit = SqliteConfig::MAX_BUSY_TIMEOUT;
        assert!(Target::try_from(config.clone().busy_timeout(limit)).is_ok());
        let above = limit + Duration::from_nanos(1);
        assert!(Target::try_from(config.busy_timeout(above)).is_err());
    }
}
