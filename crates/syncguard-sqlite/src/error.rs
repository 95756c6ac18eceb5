//! Errors of this backend, and what they mean to a caller.

use std::path::Path;

use syncguard_core::{Error, ErrorKind, Fence, backend::Effect};

/// Describes what went wrong, as this crate distinguishes it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Core(#[from] Error),
    #[error("{0}")]
    Config(String),
    #[error(
        "the lock tables need a client of version {least} or later; this one has version {known} and \
         must be upgraded"
    )]
    NewerSchema { least: i64, known: i64 },
    /// The file at the path is not the one that was open.
    #[error("the database file was moved, deleted or replaced while it was in use")]
    Replaced,
    #[error(
        "the log of the database was deleted or replaced while it was open, and the locks with it; \
         restart every process that has the file open"
    )]
    Torn(Effect),
    #[error("the database file {0}; its log would not be that of others who open it")]
    Aliased(&'static str),
    #[error("the connection was not free within the busy timeout")]
    NoTurn,
    #[error("{}", reason(.0))]
    Driver(#[source] sqlx::Error, Effect),
    #[error("the backend's thread could not be started: {0}")]
    NoWorker(#[source] std::io::Error),
    /// The request panicked, or the backend's thread ended before it.
    #[error("the backend's thread did not finish the request")]
    CutOff,
    /// No caller ever sees this error.
    #[error("the caller stopped waiting before the request began")]
    CallerLeft,
    #[error("the stored {0} cannot be read")]
    Unreadable(&'static str),
    /// A statement that wrote returned an unexpected value.
    #[error("the {0} that was stored cannot be read")]
    UnreadableAnswer(&'static str),
    #[error("the id was abandoned")]
    Abandoned,
    #[error("the fence counter is at its limit of {}", Fence::LIMIT)]
    FenceLimit,
}

/// Returns the message of SQLite without that of the driver before it.
fn reason(source: &sqlx::Error) -> String {
    match source {
        sqlx::Error::Database(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// The result codes of SQLite that are distinguished, from <https://sqlite.org/rescode.html>.
mod code {
    pub(super) const ERROR: u32 = 1;
    pub(super) const PERM: u32 = 3;
    pub(super) const BUSY: u32 = 5;
    pub(super) const LOCKED: u32 = 6;
    pub(super) const NOMEM: u32 = 7;
    pub(super) const READONLY: u32 = 8;
    pub(super) const IOERR: u32 = 10;
    pub(super) const CORRUPT: u32 = 11;
    pub(super) const FULL: u32 = 13;
    pub(super) const CANTOPEN: u32 = 14;
    pub(super) const PROTOCOL: u32 = 15;
    pub(super) const SCHEMA: u32 = 17;
    pub(super) const CONSTRAINT: u32 = 19;
    pub(super) const AUTH: u32 = 23;
    pub(super) const NOTADB: u32 = 26;
    pub(super) const CONSTRAINT_PRIMARYKEY: u32 = 1555;
    pub(super) const CONSTRAINT_UNIQUE: u32 = 2067;
    /// The database file was moved or deleted under an open connection.
    pub(super) const READONLY_DBMOVED: u32 = 1032;
}

impl Failure {
    /// Converts an error of the driver from opening a connection, during which no lock is touched.
    pub(crate) fn in_opening(source: sqlx::Error) -> Self {
        Self::Driver(source, Effect::NotApplied)
    }

    /// Returns whether another connection was in the way, which is transient.
    pub(crate) fn is_busy(&self) -> bool {
        let passing = [code::BUSY, code::LOCKED, code::PROTOCOL];
        matches!(self, Self::Driver(source, _)
            if result_code(source).is_some_and(|code| passing.contains(&(code & 0xff))))
    }

    /// Returns whether opening the file may succeed a little later.
    pub(crate) fn passes(&self) -> bool {
        self.is_busy() || matches!(self, Self::Replaced)
    }

    /// Makes this the failure of a statement that had run before the failure was found.
    pub(crate) fn after(self, effect: Effect) -> Self {
        match self {
            Self::Torn(_) => Self::Torn(effect),
            Self::Unreadable(what) if effect == Effect::MayHaveApplied => {
                Self::UnreadableAnswer(what)
            }
            failure => failure,
        }
    }

    /// Returns whether the files that had the locks are gone, and all leases with them.
    pub(crate) fn ends_leases(&self) -> bool {
        matches!(self, Self::Replaced | Self::Torn(_))
    }

    /// Returns whether the connection is still usable. If it is not, it is replaced.
    pub(crate) fn spares_connection(&self) -> bool {
        let constraint = matches!(self, Self::Driver(source, _)
            if result_code(source).is_some_and(|code| code & 0xff == code::CONSTRAINT));
        constraint || self.is_busy() || matches!(self, Self::Torn(_) | Self::Aliased(_))
    }

    /// Converts the failure into the core's error. `path` is the database file.
    pub(crate) fn into_error(self, path: &Path) -> Error {
        let (kind, effect) = self.classify();
        let detail = match self.advice() {
            Some(advice) => format!("{}: {advice}", path.display()),
            None if self.is_about_the_file() => format!("{}: {self}", path.display()),
            None => self.to_string(),
        };
        let error = Error::new(kind).with_detail(detail).with_effect(effect);
        match self {
            Self::Core(error) => error,
            Self::Driver(source, _) => error.with_source(source),
            Self::NoWorker(source) => error.with_source(source),
            _ => error,
        }
    }

    fn classify(&self) -> (ErrorKind, Effect) {
        match self {
            Self::Core(error) => (error.kind(), Effect::NotApplied),
            Self::Config(_) => (ErrorKind::InvalidArgument, Effect::NotApplied),
            Self::NewerSchema { .. } => (ErrorKind::Unsupported, Effect::NotApplied),
            Self::NoTurn => (ErrorKind::ServiceUnavailable, Effect::NotApplied),
            Self::Replaced => (ErrorKind::ServiceUnavailable, Effect::MayHaveApplied),
            Self::Torn(effect) => (ErrorKind::Internal, *effect),
            Self::Aliased(_) => (ErrorKind::Unsupported, Effect::NotApplied),
            Self::NoWorker(_) => (ErrorKind::ServiceUnavailable, Effect::NotApplied),
            Self::CutOff => (ErrorKind::ServiceUnavailable, Effect::MayHaveApplied),
            Self::CallerLeft => (ErrorKind::Aborted, Effect::NotApplied),
            Self::Unreadable(_) => (ErrorKind::Internal, Effect::NotApplied),
            Self::UnreadableAnswer(_) => (ErrorKind::Internal, Effect::MayHaveApplied),
            Self::FenceLimit => (ErrorKind::Internal, Effect::NotApplied),
            Self::Abandoned => (ErrorKind::Aborted, Effect::NotApplied),
            Self::Driver(source, effect) => classify_driver(source, *effect),
        }
    }

    fn is_about_the_file(&self) -> bool {
        matches!(self, Self::Replaced | Self::Torn(_) | Self::Aliased(_) | Self::NewerSchema { .. })
    }

    /// Returns advice on an error of SQLite whose own message does not suggest what to do.
    fn advice(&self) -> Option<&'static str> {
        let Self::Driver(source, _) = self else {
            return None;
        };
        let code = result_code(source)?;
        Some(match code & 0xff {
            _ if code == code::READONLY_DBMOVED => "the file was moved or deleted",
            code::BUSY | code::LOCKED | code::PROTOCOL => {
                "the database was in use for longer than the busy timeout"
            }
            code::PERM | code::READONLY | code::AUTH => "the file may not be written",
            code::CANTOPEN => {
                "the file cannot be opened; it and its directory must exist and be writable"
            }
            code::NOTADB => "the file is not a SQLite database",
            code::CORRUPT => "the database is damaged",
            code::FULL => "the disk is full",
            code::IOERR => "reading or writing the file failed",
            code::NOMEM => "out of memory",
            _ if is_duplicate(code) => "the lock id holds another key",
            code::CONSTRAINT => "a constraint or a trigger on the lock tables refused it",
            code::ERROR => "the lock tables are missing or not as this program made them",
            _ => "sqlite refused the statement",
        })
    }
}

/// Classifies what SQLite and its driver report.
///
/// A statement that failed on a lock, a permission, a unique index or a damaged page did nothing:
/// SQLite ended it before its commit or rolled it back. After an I/O error that is not certain. The
/// commit record may be in the log although syncing it failed, and take effect after a restart; the
/// disk can likewise become full after the commit record. Nor is it certain after any other
/// constraint: a trigger of an application that raises FAIL keeps what the statement did. The same
/// holds for codes that are not listed. `effect` is the most that the statement could do.
fn classify_driver(source: &sqlx::Error, effect: Effect) -> (ErrorKind, Effect) {
    let Some(code) = result_code(source) else {
        return match source {
            sqlx::Error::WorkerCrashed | sqlx::Error::Io(_) => {
                (ErrorKind::ServiceUnavailable, effect)
            }
            _ => (ErrorKind::Internal, effect),
        };
    };
    match code & 0xff {
        _ if code == code::READONLY_DBMOVED => (ErrorKind::ServiceUnavailable, Effect::NotApplied),
        code::BUSY | code::LOCKED | code::PROTOCOL | code::CANTOPEN => {
            (ErrorKind::ServiceUnavailable, Effect::NotApplied)
        }
        code::PERM | code::READONLY | code::AUTH => (ErrorKind::AuthFailed, Effect::NotApplied),
        code::IOERR | code::FULL | code::NOMEM => (ErrorKind::ServiceUnavailable, effect),
        _ if is_duplicate(code) => (ErrorKind::InvalidArgument, Effect::NotApplied),
        code::ERROR | code::CORRUPT | code::SCHEMA | code::NOTADB => {
            (ErrorKind::Internal, Effect::NotApplied)
        }
        _ => (ErrorKind::Internal, effect),
    }
}

fn is_duplicate(code: u32) -> bool {
    [code::CONSTRAINT_UNIQUE, code::CONSTRAINT_PRIMARYKEY].contains(&code)
}

/// Reads SQLite's extended result code.
fn result_code(source: &sqlx::Error) -> Option<u32> {
    source.as_database_error()?.code()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
    use syncguard_core::{Error, ErrorKind};

    use super::{Effect, Failure};

    /// Lets SQLite fail at the last of some statements, as a write.
    async fn failing(options: SqliteConnectOptions, sql: &'static str) -> Error {
        let mut connection = options.connect().await.unwrap();
        let source = sqlx::raw_sql(sql).execute(&mut connection).await.unwrap_err();
        let failure = Failure::Driver(source, Effect::MayHaveApplied);
        failure.into_error(Path::new("locks.db"))
    }

    #[tokio::test]
    async fn a_file_that_may_not_be_written_is_a_matter_of_permission() {
        let directory = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new().filename(directory.path().join("locks.db"));
        drop(options.clone().create_if_missing(true).connect().await.unwrap());
        let error = failing(options.read_only(true), "CREATE TABLE t (x)").await;
        assert_eq!(error.kind(), ErrorKind::AuthFailed, "{error}");
        assert!(!error.may_have_applied());
        assert!(error.to_string().contains("locks.db: the file may not be written"), "{error}");
    }

    #[tokio::test]
    async fn a_full_disk_may_have_struck_behind_the_commit() {
        let fill = "CREATE TABLE t (x); PRAGMA max_page_count = 3; \
                    INSERT INTO t VALUES (zeroblob(100000))";
        let error = failing(SqliteConnectOptions::new(), fill).await;
        assert_eq!(error.kind(), ErrorKind::ServiceUnavailable, "{error}");
        assert!(error.may_have_applied() && error.is_retryable(), "{error}");
    }

    #[tokio::test]
    async fn a_statement_that_sqlite_refuses_did_nothing() {
        let error = failing(SqliteConnectOptions::new(), "SELECT 1 FROM nowhere").await;
        assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
        assert!(!error.may_have_applied());
    }

    #[test]
    fn a_read_that_failed_changed_nothing() {
        for (effect, may_have_applied) in
            [(Effect::NotApplied, false), (Effect::MayHaveApplied, true)]
        {
            let failure = Failure::Driver(sqlx::Error::WorkerCrashed, effect);
            let error = failure.into_error(Path::new("locks.db"));
            assert_eq!(error.may_have_applied(), may_have_applied);
        }
    }
}
