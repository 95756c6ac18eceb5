//! Errors of this backend, and what they mean to a caller.

use std::{sync::Arc, time::Duration};

use sqlx::postgres::{PgDatabaseError, PgSeverity};
use syncguard_core::{
    Error, ErrorKind, Fence, InvalidValue,
    backend::Effect,
    pool::{Interrupted, LeaseError},
};

/// Describes what went wrong, as this crate distinguishes it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Core(#[from] Error),
    #[error("{0}")]
    Config(String),
    #[error("the lock table has no columns for shared mode: {ADVICE_COLUMNS}")]
    SharedMode,
    #[error("the id was abandoned, or holds another key")]
    Abandoned,
    #[error(
        "the fence counter is at its limit of {}, is not a counter, or is behind the stored fence",
        Fence::LIMIT
    )]
    FenceLimit,
    /// Nothing was granted over the record, and it is unchanged.
    #[error("the stored {0} cannot be read")]
    Unreadable(&'static str),
    /// A statement was carried out, but the server's answer makes no sense.
    #[error("the {0} in the server's answer cannot be read")]
    UnreadableAnswer(&'static str),
    #[error("the lock tables are missing or incomplete: {ADVICE_SCHEMA}")]
    NoTables,
    #[error(
        "the lock tables need a client of version {least} or later; this one has version {known} and \
         must be upgraded"
    )]
    NewerSchema { least: i64, known: i64 },
    #[error("no connection within {0:?}")]
    Unconnected(Duration),
    #[error(transparent)]
    Unleased(#[from] LeaseError<Self>),
    #[error("a backend can only be opened on a tokio runtime")]
    NoRuntime,
    #[error("the runtime on which the backend was opened has been shut down")]
    RuntimeEnded,
    #[error("could not connect: {}", explain(.0))]
    Connecting(#[source] sqlx::Error),
    #[error("every connection was inside a transaction that was not ended")]
    InTransaction,
    #[error("the driver panicked on what the server sent")]
    Panicked,
    #[error("the server did not answer in time")]
    TimedOut(Effect),
    /// A task of ours ended before its statement, or its caller went away.
    #[error("the statement was interrupted")]
    CutOff(Effect),
    /// The error of several requests that were sent as one.
    #[error(transparent)]
    Shared(Arc<Self>),
    #[error("{}", explain(.0))]
    Driver(#[source] sqlx::Error, Effect),
}

const ADVICE_COLUMNS: &str =
    "run `syncguard schema --apply` or call setup_schema, and connect again";
const ADVICE_SCHEMA: &str = "call setup_schema, or run the statements that schema_sql returns";
const ADVICE_RIGHTS: &str =
    "if the tables are missing, let another role run the statements that schema_sql returns";
const ADVICE_POOLER: &str = "behind a transaction pooler, use the option pgbouncer";

/// The codes of PostgreSQL that are distinguished, from
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>. Each has a kind, and advice if
/// the server's own message does not suggest what to do. The first entry that a code begins with
/// applies, so classes come last. Any other code is `Internal`.
const STATES: &[(&str, ErrorKind, &str)] = &[
    ("22021", ErrorKind::InvalidArgument, "the database must be encoded in UTF-8"),
    ("22P05", ErrorKind::InvalidArgument, "the database must be encoded in UTF-8"),
    ("23505", ErrorKind::InvalidArgument, "the lock id holds another key"),
    ("25006", ErrorKind::ServiceUnavailable, "the server takes no writes: use the primary"),
    ("26000", ErrorKind::Internal, ADVICE_POOLER),
    ("3D000", ErrorKind::InvalidArgument, ""),
    ("42501", ErrorKind::AuthFailed, ADVICE_RIGHTS),
    ("42703", ErrorKind::Internal, ADVICE_SCHEMA),
    ("42883", ErrorKind::Internal, ADVICE_SCHEMA),
    ("42P01", ErrorKind::Internal, ADVICE_SCHEMA),
    ("42P05", ErrorKind::Internal, ADVICE_POOLER),
    ("42P10", ErrorKind::Internal, ADVICE_SCHEMA),
    ("57014", ErrorKind::NetworkTimeout, ""),
    ("08P01", ErrorKind::ServiceUnavailable, ADVICE_POOLER),
    ("08", ErrorKind::ServiceUnavailable, ""),
    ("28", ErrorKind::AuthFailed, ""),
    ("40", ErrorKind::ServiceUnavailable, ""),
    ("53", ErrorKind::ServiceUnavailable, ""),
    ("54", ErrorKind::ServiceUnavailable, ""),
    ("55", ErrorKind::ServiceUnavailable, ""),
    ("57", ErrorKind::ServiceUnavailable, ""),
    ("58", ErrorKind::ServiceUnavailable, ""),
];

/// Serialisation failures and deadlocks. The server undid the statement, and it may be run again.
const CONFLICTS: [&str; 2] = ["40001", "40P01"];

/// The statement arrived inside a transaction that had failed, or that had read something before
/// the preamble set its isolation level.
const INSIDE_TRANSACTION: [&str; 2] = ["25P02", "25001"];

/// The server is starting, shutting down, or full.
const PASSING: [&str; 4] = ["57P01", "57P02", "57P03", "53300"];

/// The classes of errors that are due to the data of a statement, not to the server.
pub(crate) const DATA_ERRORS: [&str; 2] = ["22", "23"];

pub(crate) const UNIQUE_VIOLATION: &str = "23505";
pub(crate) const NOT_NULL_VIOLATION: &str = "23502";

impl From<InvalidValue> for Failure {
    fn from(invalid: InvalidValue) -> Self {
        Self::Core(invalid.into())
    }
}

impl Failure {
    /// Classifies what the driver reports about a statement that could have at most `effect`.
    ///
    /// An error that ends only the statement also undoes it. An error that ends the connection does
    /// not show what happened before.
    pub(crate) fn driver(source: sqlx::Error, effect: Effect) -> Self {
        match database_error(&source) {
            Some(error) if INSIDE_TRANSACTION.contains(&error.code()) => Self::InTransaction,
            Some(error) if !ends_connection(error) => Self::Driver(source, Effect::NotApplied),
            _ => Self::Driver(source, effect),
        }
    }

    /// Reports that the task of [contained](syncguard_core::pool::contained) work of the driver
    /// ended before it returned.
    pub(crate) fn uncontained<T>(interrupted: Interrupted) -> Result<T, Self> {
        match interrupted {
            Interrupted::NotStarted => Err(Self::RuntimeEnded),
            Interrupted::NotSent | Interrupted::Sent => Err(Self::Panicked),
        }
    }

    /// Reports that the task of a statement that could have `effect` ended before it replied.
    pub(crate) fn interrupted(interrupted: Interrupted, effect: Effect) -> Self {
        match interrupted {
            Interrupted::NotStarted => Self::RuntimeEnded,
            Interrupted::NotSent => Self::CutOff(Effect::NotApplied),
            Interrupted::Sent => Self::CutOff(effect),
        }
    }

    /// Returns whether the connection is lost, or in an unknown state.
    pub(crate) fn is_broken(&self) -> bool {
        let Self::Driver(source, _) = self else {
            return false;
        };
        database_error(source).is_none_or(ends_connection)
    }

    /// Returns whether the server undid the statement to resolve a conflict.
    pub(crate) fn is_conflict(&self) -> bool {
        self.state().is_some_and(|state| CONFLICTS.contains(&state))
    }

    /// Returns whether connecting may succeed a moment later.
    pub(crate) fn passes(&self) -> bool {
        let Self::Connecting(source) = self else {
            return false;
        };
        match source {
            sqlx::Error::Io(_) => true,
            _ => database_error(source).is_some_and(|error| PASSING.contains(&error.code())),
        }
    }

    /// Returns the server's code of the error that ended a statement.
    pub(crate) fn state(&self) -> Option<&str> {
        match self {
            Self::Driver(source, _) => database_error(source).map(PgDatabaseError::code),
            _ => None,
        }
    }

    /// Converts the failure into the core's error.
    pub(crate) fn into_error(self) -> Error {
        let detail = self.to_string();
        self.described(detail)
    }

    /// Converts a failure to use `server` into the core's error, which names it where that helps.
    pub(crate) fn into_error_at(self, server: &str) -> Error {
        let detail = match self.classify().0 {
            ErrorKind::ServiceUnavailable | ErrorKind::NetworkTimeout | ErrorKind::AuthFailed => {
                format!("{server}: {self}")
            }
            _ => self.to_string(),
        };
        self.described(detail)
    }

    fn described(self, detail: String) -> Error {
        let (kind, effect) = self.classify();
        let error = match self {
            Self::Core(error) => return error,
            Self::Connecting(source) | Self::Driver(source, _) => {
                Error::new(kind).with_source(source)
            }
            Self::Unleased(unleased) => Error::new(kind).with_source(unleased),
            Self::Shared(shared) => Error::new(kind).with_source(shared),
            _ => Error::new(kind),
        };
        error.with_detail(detail).with_effect(effect)
    }

    fn classify(&self) -> (ErrorKind, Effect) {
        match self {
            Self::Core(error) => (error.kind(), Effect::NotApplied),
            Self::Config(_) => (ErrorKind::InvalidArgument, Effect::NotApplied),
            Self::NewerSchema { .. } | Self::SharedMode => {
                (ErrorKind::Unsupported, Effect::NotApplied)
            }
            Self::Abandoned => (ErrorKind::Aborted, Effect::NotApplied),
            Self::FenceLimit | Self::NoTables | Self::NoRuntime | Self::RuntimeEnded => {
                (ErrorKind::Internal, Effect::NotApplied)
            }
            Self::Unreadable(_) => (ErrorKind::Internal, Effect::NotApplied),
            Self::UnreadableAnswer(_) => (ErrorKind::Internal, Effect::MayHaveApplied),
            Self::Unconnected(_) | Self::InTransaction | Self::Panicked => {
                (ErrorKind::ServiceUnavailable, Effect::NotApplied)
            }
            Self::Unleased(unleased) => {
                let kind = unleased.cause().map(|cause| cause.classify().0);
                (kind.unwrap_or(ErrorKind::ServiceUnavailable), Effect::NotApplied)
            }
            Self::TimedOut(effect) => (ErrorKind::NetworkTimeout, *effect),
            Self::Shared(shared) => shared.classify(),
            Self::CutOff(effect) => (ErrorKind::ServiceUnavailable, *effect),
            Self::Connecting(source) => (kind(source), Effect::NotApplied),
            Self::Driver(source, effect) => (kind(source), *effect),
        }
    }
}

fn kind(source: &sqlx::Error) -> ErrorKind {
    match source {
        sqlx::Error::Database(_) => entry(source).map_or(ErrorKind::Internal, |entry| entry.1),
        sqlx::Error::Io(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => ErrorKind::ServiceUnavailable,
        sqlx::Error::Configuration(_) => ErrorKind::InvalidArgument,
        _ => ErrorKind::Internal,
    }
}

fn entry(source: &sqlx::Error) -> Option<&'static (&'static str, ErrorKind, &'static str)> {
    let state = database_error(source)?.code();
    STATES.iter().find(|(prefix, ..)| state.starts_with(prefix))
}

/// Returns the message of the server or of the operating system, with advice.
fn explain(source: &sqlx::Error) -> String {
    let reason = match source {
        // The driver adds a line of the server's source code.
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    };
    match entry(source) {
        Some((_, _, advice)) if !advice.is_empty() => format!("{reason}: {advice}"),
        _ => reason,
    }
}

fn database_error(source: &sqlx::Error) -> Option<&PgDatabaseError> {
    source.as_database_error()?.try_downcast_ref()
}

fn ends_connection(error: &PgDatabaseError) -> bool {
    matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic)
}

/// Returns the error of an id that cannot be minted.
pub(crate) fn no_random_bytes(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Internal)
        .with_detail("the operating system returned no random bytes")
        .with_source(source)
        .not_applied()
}
