//! Errors of this backend, and what they mean to a caller.

use sqlx::mysql::MySqlDatabaseError;
use syncguard_core::{
    Error, ErrorKind, Fence,
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
    #[error("the lock table does not have the columns of shared mode: {ADVICE_SCHEMA}")]
    NoSharing,
    #[error("the operating system returned no random bytes")]
    NoRandomness(#[source] std::io::Error),
    #[error("the id was abandoned, or holds another key")]
    Abandoned,
    #[error("the id was granted in every attempt to abandon it")]
    NoTombstone,
    #[error("the fence counter is at its limit of {}", Fence::LIMIT)]
    FenceLimit,
    /// Nothing was granted over the record, and it is unchanged.
    #[error("the stored {0} cannot be read")]
    Unreadable(&'static str),
    /// A statement was carried out, but the server's answer makes no sense.
    #[error("the {0} in the server's answer cannot be read")]
    UnreadableAnswer(&'static str),
    #[error("the lock table is missing or incomplete: {ADVICE_SCHEMA}")]
    NoTable,
    #[error(
        "the lock table needs a client of version {least} or later; this one has version {known} and \
         must be upgraded"
    )]
    NewerSchema { least: i64, known: i64 },
    #[error("a connection does not keep its {0}: is there a proxy in between?")]
    Unpinned(String),
    #[error(transparent)]
    Unleased(#[from] LeaseError<Self>),
    #[error("a backend can only be opened on a tokio runtime")]
    NoRuntime,
    #[error("the runtime on which the backend was opened has been shut down")]
    RuntimeEnded,
    #[error("could not connect: {}", explain(.0))]
    Connecting(#[source] sqlx::Error),
    #[error("the driver panicked on what the server sent")]
    Panicked,
    #[error("the server did not answer in time")]
    TimedOut(Effect),
    /// A task of ours ended before its statement, or its caller went away.
    #[error("the statement was interrupted")]
    CutOff(Effect),
    #[error("{}", explain(.0))]
    Driver(#[source] sqlx::Error, Effect),
    /// A failure that itself certainly changed nothing, after one that may have.
    #[error("{0}")]
    UnknownEffect(Box<Self>),
}

const ADVICE_SCHEMA: &str = "call setup_schema, or run the statements that schema_sql returns";
const ADVICE_RIGHTS: &str =
    "if the table is missing, let another user run the statements that schema_sql returns";
const ADVICE_PRIMARY: &str = "the server takes no writes: use the primary";
const ADVICE_BINLOG: &str = "set binlog_format = ROW or MIXED";

/// The errors of the server that are distinguished, by their numbers, from
/// <https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html> and
/// <https://mariadb.com/kb/en/mariadb-error-codes/>. Each has a kind, whether the statement is
/// certain to have changed nothing, and advice if the server's own message does not suggest what to
/// do. Any other error is `Internal`, and its statement may have changed something.
///
/// The server reports those of `Effect::NotApplied` before it begins to commit: it refuses the statement,
/// or undoes it. A statement that is stopped from outside, or that a hook of the replication
/// refuses, is undone as well if that happens before its commit; the number does not show whether
/// it did.
const NUMBERS: &[Entry] = &[
    // The user, the password, the host, the rights.
    (&[1045, 1130, 1251, 1275, 1524, 1698], ErrorKind::AuthFailed, Effect::NotApplied, ""),
    (&[1044, DENIED, 1143, 1227], ErrorKind::AuthFailed, Effect::NotApplied, ADVICE_RIGHTS),
    (&[1046, 1049], ErrorKind::InvalidArgument, Effect::NotApplied, ""),
    (&[1054, UNKNOWN_TABLE], ErrorKind::Internal, Effect::NotApplied, ADVICE_SCHEMA),
    (&[1290, 1792, 1836], ErrorKind::ServiceUnavailable, Effect::NotApplied, ADVICE_PRIMARY),
    (&[1665], ErrorKind::Internal, Effect::NotApplied, ADVICE_BINLOG),
    (&[DUPLICATE], ErrorKind::Internal, Effect::NotApplied, ""),
    // It ran for too long: MariaDB, MySQL.
    (&[1969, 3024], ErrorKind::NetworkTimeout, Effect::MayHaveApplied, ""),
    // Full: connections, memory, locks, tables.
    (
        &[1040, 1203, 1226, 1114, 1037, 1041, 1135, 1206],
        ErrorKind::ServiceUnavailable,
        Effect::NotApplied,
        "",
    ),
    // The disk.
    (&[1021], ErrorKind::ServiceUnavailable, Effect::MayHaveApplied, ""),
    // A node of a cluster that is not ready, or a change of its primary.
    (&[1047], ErrorKind::ServiceUnavailable, Effect::NotApplied, ""),
    (&[3100, 3101], ErrorKind::ServiceUnavailable, Effect::MayHaveApplied, ""),
    // It waited for too long, or was undone to resolve a conflict.
    (&[WAITED_TOO_LONG, DEADLOCK, CHANGED], ErrorKind::ServiceUnavailable, Effect::NotApplied, ""),
    // An operator stopped it.
    (&[1317], ErrorKind::ServiceUnavailable, Effect::MayHaveApplied, ""),
];

/// The server waited too long for a lock, and undid the statement.
const WAITED_TOO_LONG: u16 = 1205;

/// Statements waited for each other. The server undid this one, and it may be run again.
const DEADLOCK: u16 = 1213;

/// With snapshot isolation, the row was changed while the statement waited for it. MariaDB undid the
/// statement, and it may be run again.
const CHANGED: u16 = 1020;

const DUPLICATE: u16 = 1062;

/// The user may not do this to the table, whether or not it exists.
const DENIED: u16 = 1142;

const UNKNOWN_TABLE: u16 = 1146;

/// The server is full, or shutting down.
const PASSING: [u16; 3] = [1040, 1203, 1053];

/// The server ends the connection: it shuts down, the connection was ended from outside, or the
/// server failed in the middle of a commit.
const ENDS_CONNECTION: [u16; 11] =
    [1053, 1152, 1158, 1159, 1160, 1161, 1180, 1184, 1927, 3169, 4031];

impl Failure {
    /// Classifies what the driver reports about a statement that could have at most `effect`, after
    /// the statements that it was sent with changed `changed` rows.
    ///
    /// An error shows only about its own statement whether that changed anything.
    pub(crate) fn driver(source: sqlx::Error, effect: Effect, changed: u64) -> Self {
        let undone = entry(&source).is_some_and(|entry| entry.2 == Effect::NotApplied);
        let effect = if undone && changed == 0 { Effect::NotApplied } else { effect };
        Self::Driver(source, effect)
    }

    /// Records that an attempt before this failure may have changed something.
    pub(crate) fn with_unknown_effect(self) -> Self {
        match self.effect() {
            Effect::NotApplied => Self::UnknownEffect(Box::new(self)),
            Effect::MayHaveApplied => self,
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

    pub(crate) fn effect(&self) -> Effect {
        self.classify().1
    }

    /// Records that this failure happened before anything was requested on the connection.
    pub(crate) fn in_opening(self) -> Self {
        match self {
            Self::Driver(source, _) => Self::Connecting(source),
            other => other,
        }
    }

    /// Returns whether the connection is lost, or in an unknown state.
    pub(crate) fn is_broken(&self) -> bool {
        match self {
            Self::TimedOut(_) => true,
            Self::Driver(source, _) => {
                number(source).is_none_or(|number| ENDS_CONNECTION.contains(&number))
            }
            _ => false,
        }
    }

    /// Returns whether the server undid the statement to resolve a conflict.
    ///
    /// A statement that waited too long for a lock does not count: it is not run again, because its
    /// wait was the limit.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Driver(source, _)
            if [Some(DEADLOCK), Some(CHANGED)].contains(&number(source)))
    }

    /// Returns whether a unique index refused the statement.
    pub(crate) fn is_duplicate(&self) -> bool {
        match self {
            Self::Driver(source, _) => number(source) == Some(DUPLICATE),
            Self::UnknownEffect(failure) => failure.is_duplicate(),
            _ => false,
        }
    }

    /// Returns whether the table does not exist.
    pub(crate) fn is_unknown_table(&self) -> bool {
        matches!(self, Self::Driver(source, _) if number(source) == Some(UNKNOWN_TABLE))
    }

    /// Returns whether the user may not use the table, if there is one.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(self, Self::Driver(source, _) if number(source) == Some(DENIED))
    }

    /// Returns whether connecting may succeed a moment later.
    pub(crate) fn passes(&self) -> bool {
        let Self::Connecting(source) = self else {
            return false;
        };
        match source {
            sqlx::Error::Io(_) => true,
            _ => number(source).is_some_and(|number| PASSING.contains(&number)),
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
        let error = Error::new(kind);
        let error = match (error.may_have_applied(), effect) {
            (_, Effect::NotApplied) => error.not_applied(),
            (true, Effect::MayHaveApplied) => error,
            // The kind would mean that nothing was applied.
            (false, Effect::MayHaveApplied) => Error::new(ErrorKind::ServiceUnavailable),
        };
        match self {
            Self::Core(error) => error,
            failure => match failure.into_source() {
                Some(source) => error.with_detail(detail).with_source(source),
                None => error.with_detail(detail),
            },
        }
    }

    fn into_source(self) -> Option<Box<dyn std::error::Error + Send + Sync>> {
        match self {
            Self::Connecting(source) | Self::Driver(source, _) => Some(source.into()),
            Self::Unleased(unleased) => Some(unleased.into()),
            Self::NoRandomness(source) => Some(source.into()),
            Self::UnknownEffect(failure) => failure.into_source(),
            _ => None,
        }
    }

    fn classify(&self) -> (ErrorKind, Effect) {
        match self {
            Self::Core(error) => (error.kind(), Effect::NotApplied),
            Self::Config(_) => (ErrorKind::InvalidArgument, Effect::NotApplied),
            Self::NewerSchema { .. } | Self::NoSharing => {
                (ErrorKind::Unsupported, Effect::NotApplied)
            }
            Self::Abandoned => (ErrorKind::Aborted, Effect::NotApplied),
            Self::FenceLimit
            | Self::NoRandomness(_)
            | Self::NoTable
            | Self::Unpinned(_)
            | Self::NoRuntime
            | Self::RuntimeEnded => (ErrorKind::Internal, Effect::NotApplied),
            Self::Unreadable(_) => (ErrorKind::Internal, Effect::NotApplied),
            Self::UnreadableAnswer(_) => (ErrorKind::Internal, Effect::MayHaveApplied),
            Self::Unleased(unleased) => {
                let kind = unleased.cause().map(|cause| cause.classify().0);
                (kind.unwrap_or(ErrorKind::ServiceUnavailable), Effect::NotApplied)
            }
            Self::Panicked => (ErrorKind::ServiceUnavailable, Effect::NotApplied),
            Self::NoTombstone => (ErrorKind::ServiceUnavailable, Effect::MayHaveApplied),
            Self::TimedOut(effect) => (ErrorKind::NetworkTimeout, *effect),
            Self::CutOff(effect) => (ErrorKind::ServiceUnavailable, *effect),
            Self::Connecting(source) => (kind(source), Effect::NotApplied),
            Self::Driver(source, effect) => (kind(source), *effect),
            Self::UnknownEffect(failure) => (failure.classify().0, Effect::MayHaveApplied),
        }
    }
}

fn kind(source: &sqlx::Error) -> ErrorKind {
    match source {
        sqlx::Error::Database(_) => match number(source) {
            Some(number) if ENDS_CONNECTION.contains(&number) => ErrorKind::ServiceUnavailable,
            _ => entry(source).map_or(ErrorKind::Internal, |entry| entry.1),
        },
        sqlx::Error::Io(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::WorkerCrashed => ErrorKind::ServiceUnavailable,
        sqlx::Error::Configuration(_) => ErrorKind::InvalidArgument,
        _ => ErrorKind::Internal,
    }
}

type Entry = (&'static [u16], ErrorKind, Effect, &'static str);

fn entry(source: &sqlx::Error) -> Option<&'static Entry> {
    let number = number(source)?;
    NUMBERS.iter().find(|(numbers, ..)| numbers.contains(&number))
}

/// Returns the message of the server or of the operating system, with advice.
fn explain(source: &sqlx::Error) -> String {
    let reason = match source {
        sqlx::Error::Database(error) => error.to_string(),
        sqlx::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    };
    match entry(source) {
        Some((.., advice)) if !advice.is_empty() => format!("{reason}: {advice}"),
        _ => reason,
    }
}

fn number(source: &sqlx::Error) -> Option<u16> {
    let error: &MySqlDatabaseError = source.as_database_error()?.try_downcast_ref()?;
    Some(error.number())
}
