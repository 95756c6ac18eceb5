//! All that can go wrong here, and what it means to a caller.

use sqlx::mysql::MySqlDatabaseError;
use syncguard_core::{
    Error, ErrorKind, Fence, Operation,
    pool::{Interrupted, LeaseError},
};

/// Says what went wrong, in this crate's terms.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Core(#[from] Error),
    #[error("{0}")]
    Config(String),
    #[error("shared mode")]
    SharedMode,
    #[error("the id was abandoned, or holds another key")]
    Abandoned,
    #[error("grants under the id are made all the time")]
    Unmarked,
    #[error("the fence counter stands at its limit of {}", Fence::LIMIT)]
    FenceLimit,
    #[error("the {0} on record cannot be read")]
    Unreadable(&'static str),
    #[error("the lock table is missing or incomplete: {ADVICE_SCHEMA}")]
    NoTable,
    #[error("a connection does not keep its {0}: is there a proxy in between?")]
    Unpinned(String),
    #[error(transparent)]
    Unleased(#[from] LeaseError<Self>),
    #[error("there is no tokio runtime to open connections on")]
    NoRuntime,
    #[error("the runtime on which the backend was opened has been shut down")]
    RuntimeEnded,
    #[error("the server could not be connected to: {}", explain(.0))]
    Connecting(#[source] sqlx::Error),
    #[error("no answer in time")]
    TimedOut(Effect),
    /// A task of ours ended before its statement, or its caller went away.
    #[error("the statement was cut off")]
    CutOff(Effect),
    #[error("{}", explain(.0))]
    Driver(#[source] sqlx::Error, Effect),
}

/// Says what a statement that failed may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    None,
    Unknown,
}

const ADVICE_SCHEMA: &str = "call setup_schema, or run what schema_sql gives";
const ADVICE_RIGHTS: &str =
    "if it is the table that is missing, let another user run what schema_sql gives";
const ADVICE_PRIMARY: &str = "the server takes no writes: use the primary";
const ADVICE_BINLOG: &str = "set binlog_format = ROW or MIXED";

/// The errors of the server that are told apart, by their numbers, from
/// <https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html> and
/// <https://mariadb.com/kb/en/mariadb-error-codes/>: what each is to a caller, and what to do where
/// the server's own words leave one guessing. What is not here is `Internal`.
const NUMBERS: &[(&[u16], ErrorKind, &str)] = &[
    // The user, the password, the host, the rights.
    (&[1045, 1130, 1251, 1275, 1524, 1698], ErrorKind::AuthFailed, ""),
    (&[1044, 1142, 1143, 1227], ErrorKind::AuthFailed, ADVICE_RIGHTS),
    (&[1046, 1049], ErrorKind::InvalidArgument, ""),
    (&[1054, 1146], ErrorKind::Internal, ADVICE_SCHEMA),
    (&[1290, 1792, 1836], ErrorKind::ServiceUnavailable, ADVICE_PRIMARY),
    (&[1665], ErrorKind::Internal, ADVICE_BINLOG),
    // It ran for too long: MariaDB, MySQL.
    (&[1969, 3024], ErrorKind::NetworkTimeout, ""),
    // Full: connections, disk, memory, locks.
    (&[1040, 1203, 1226, 1021, 1114, 1037, 1041, 1135, 1206], ErrorKind::ServiceUnavailable, ""),
    // A node of a cluster that is not ready, or a change of its primary.
    (&[1047, 3100, 3101], ErrorKind::ServiceUnavailable, ""),
    // It waited for too long, was undone to get out of a conflict, or was stopped by an operator.
    (&[WAITED_TOO_LONG, DEADLOCK, 1317], ErrorKind::ServiceUnavailable, ""),
];

/// The server waited too long for a lock, and undid the statement.
const WAITED_TOO_LONG: u16 = 1205;

/// Statements waited for each other. The server undid this one, and it may be run again.
const DEADLOCK: u16 = 1213;

const DUPLICATE: u16 = 1062;

/// The server is full, or going down.
const PASSING: [u16; 3] = [1040, 1203, 1053];

/// The server gives up the connection: it shuts down, somebody or something ended the connection, or it
/// failed in the middle of a commit.
const ENDS_CONNECTION: [u16; 11] =
    [1053, 1152, 1158, 1159, 1160, 1161, 1180, 1184, 1927, 3169, 4031];

impl Failure {
    /// Sorts what the driver reports of a statement that could do `effect` at all, after `changed`
    /// rows were changed by those that it was sent with.
    ///
    /// An error by which the server gives up a statement alone also undoes it. One by which it gives
    /// up the connection says nothing of what came before.
    pub(crate) fn driver(source: sqlx::Error, effect: Effect, changed: u64) -> Self {
        match number(&source) {
            Some(number) if !ENDS_CONNECTION.contains(&number) && changed == 0 => {
                Self::Driver(source, Effect::None)
            }
            _ => Self::Driver(source, effect),
        }
    }

    /// Says of a statement with an effect that its task ended before it replied.
    pub(crate) fn interrupted(interrupted: Interrupted, effect: Effect) -> Self {
        match interrupted {
            Interrupted::NotStarted => Self::RuntimeEnded,
            Interrupted::NotSent => Self::CutOff(Effect::None),
            Interrupted::Sent => Self::CutOff(effect),
        }
    }

    /// Says of a failure that it came before anything was asked of the connection.
    pub(crate) fn in_opening(self) -> Self {
        match self {
            Self::Driver(source, _) => Self::Connecting(source),
            other => other,
        }
    }

    /// Tells whether the connection is lost, or in a state that nobody knows.
    pub(crate) fn is_broken(&self) -> bool {
        match self {
            Self::TimedOut(_) => true,
            Self::Driver(source, _) => {
                number(source).is_none_or(|number| ENDS_CONNECTION.contains(&number))
            }
            _ => false,
        }
    }

    /// Tells whether the server undid the statement to get out of a conflict.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Driver(source, _) if number(source) == Some(DEADLOCK))
    }

    /// Tells whether a unique index refused the statement.
    pub(crate) fn is_duplicate(&self) -> bool {
        matches!(self, Self::Driver(source, _) if number(source) == Some(DUPLICATE))
    }

    /// Tells whether connecting may succeed a moment later.
    pub(crate) fn passes(&self) -> bool {
        let Self::Connecting(source) = self else {
            return false;
        };
        match source {
            sqlx::Error::Io(_) => true,
            _ => number(source).is_some_and(|number| PASSING.contains(&number)),
        }
    }

    /// Makes the core's error.
    pub(crate) fn into_error(self, operation: Operation) -> Error {
        let (kind, effect) = self.classify();
        let detail = self.to_string();
        let error = match self {
            Self::Core(error) => return error,
            Self::Connecting(source) | Self::Driver(source, _) => {
                Error::new(kind, operation).with_source(source)
            }
            Self::Unleased(unleased) => Error::new(kind, operation).with_source(unleased),
            _ => Error::new(kind, operation),
        };
        let error = error.with_detail(detail);
        match effect {
            Effect::None => error.not_applied(),
            Effect::Unknown => error,
        }
    }

    fn classify(&self) -> (ErrorKind, Effect) {
        match self {
            Self::Core(error) => (error.kind(), Effect::None),
            Self::Config(_) => (ErrorKind::InvalidArgument, Effect::None),
            Self::SharedMode => (ErrorKind::Unsupported, Effect::None),
            Self::Abandoned => (ErrorKind::Aborted, Effect::None),
            Self::FenceLimit
            | Self::NoTable
            | Self::Unpinned(_)
            | Self::NoRuntime
            | Self::RuntimeEnded => (ErrorKind::Internal, Effect::None),
            // A statement was carried out, and what it says makes no sense.
            Self::Unreadable(_) => (ErrorKind::Internal, Effect::Unknown),
            Self::Unleased(unleased) => {
                let kind = unleased.cause().map(|cause| cause.classify().0);
                (kind.unwrap_or(ErrorKind::ServiceUnavailable), Effect::None)
            }
            Self::Unmarked => (ErrorKind::ServiceUnavailable, Effect::Unknown),
            Self::TimedOut(effect) => (ErrorKind::NetworkTimeout, *effect),
            Self::CutOff(effect) => (ErrorKind::ServiceUnavailable, *effect),
            Self::Connecting(source) => (kind(source), Effect::None),
            Self::Driver(source, effect) => (kind(source), *effect),
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

fn entry(source: &sqlx::Error) -> Option<&'static (&'static [u16], ErrorKind, &'static str)> {
    let number = number(source)?;
    NUMBERS.iter().find(|(numbers, ..)| numbers.contains(&number))
}

/// Gives the driver's words, which are the server's, and advice.
fn explain(source: &sqlx::Error) -> String {
    match entry(source) {
        Some((_, _, advice)) if !advice.is_empty() => format!("{source}: {advice}"),
        _ => source.to_string(),
    }
}

fn number(source: &sqlx::Error) -> Option<u16> {
    let error: &MySqlDatabaseError = source.as_database_error()?.try_downcast_ref()?;
    Some(error.number())
}
