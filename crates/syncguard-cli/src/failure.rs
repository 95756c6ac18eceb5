//! Why the program could not do what was requested.

use std::{io, path::PathBuf};

use syncguard::{DisplayHash, Error, ErrorKind, Holder};

use crate::exit::Exit;

/// The text of a failure includes that of its cause: an error of the library explains itself, and the
/// source of such an error is for programmers.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("not run: {} is {holder}", lock(.hash))]
    Held { hash: Option<DisplayHash>, holder: Holder },
    #[error("not run: timed out waiting for {}", lock(.0))]
    WaitTimeout(Option<DisplayHash>),
    #[error("timed out waiting for lock {0} to become free")]
    StillHeld(DisplayHash),
    #[error(transparent)]
    Lock(Error),
    #[error("not run: the store did not answer within the wait")]
    StoreTimeout,
    #[error("--shared and --permits are for a single --key")]
    SharedKeys,
    #[error("there is no terminal to ask on; to end the lock without being asked, add --yes")]
    NoConsent,
    #[cfg(feature = "sqlite")]
    #[error("no store: neither XDG_STATE_HOME nor HOME is an absolute path; name one with --store")]
    NoHome,
    #[cfg(any(feature = "mysql", feature = "postgres"))]
    #[error("only postgres:// and mysql:// stores have a schema; name one with --store")]
    NoSchema,
    #[error("{0} is not the URL of a store; did you mean sqlite:{0}?")]
    StorePath(String),
    #[error("no store is named {name:?}; {}", known_stores(.known))]
    UnknownStore { name: String, known: Vec<String> },
    #[error("the variable {name}: {reason}")]
    Variable { name: &'static str, reason: String },
    #[error("the configuration file {} cannot be read: {source}", path.display())]
    ConfigurationFile { path: PathBuf, source: io::Error },
    #[error("the configuration file {}, line {line}: {reason}", path.display())]
    Configuration { path: PathBuf, line: usize, reason: String },
    #[cfg(not(feature = "sqlite"))]
    #[error("no store: name one with --store; this program is built without SQLite")]
    NoStore,
    #[cfg(feature = "sqlite")]
    #[error("the directory of the store, {}, cannot be made: {source}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("the command cannot be started: {0}")]
    Start(io::Error),
    #[error("the command cannot be waited for: {0}")]
    Wait(io::Error),
    #[error("signals cannot be caught: {0}")]
    Signals(io::Error),
    #[error("the event loop cannot be started: {0}")]
    Runtime(io::Error),
    #[error("the answer cannot be written: {0}")]
    Output(io::Error),
}

impl Failure {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Held { .. } | Self::WaitTimeout(_) | Self::StillHeld(_) => Exit::CONTENDED,
            Self::Lock(error) => match error.kind() {
                ErrorKind::InvalidArgument => Exit::USAGE,
                ErrorKind::Lost => Exit::Lost,
                _ => Exit::UNAVAILABLE,
            },
            Self::SharedKeys
            | Self::NoConsent
            | Self::StorePath(_)
            | Self::UnknownStore { .. }
            | Self::Variable { .. }
            | Self::ConfigurationFile { .. }
            | Self::Configuration { .. } => Exit::USAGE,
            #[cfg(any(feature = "mysql", feature = "postgres"))]
            Self::NoSchema => Exit::USAGE,
            #[cfg(feature = "sqlite")]
            Self::NoHome => Exit::USAGE,
            #[cfg(feature = "sqlite")]
            Self::Directory { .. } => Exit::UNAVAILABLE,
            #[cfg(not(feature = "sqlite"))]
            Self::NoStore => Exit::USAGE,
            Self::StoreTimeout => Exit::UNAVAILABLE,
            Self::Start(_) => Exit::NOT_EXECUTABLE,
            Self::Wait(_) | Self::Signals(_) | Self::Runtime(_) => Exit::SYSTEM,
            Self::Output(_) => Exit::OUTPUT,
        }
    }
}

impl From<Error> for Failure {
    /// Words contention for a person: it is the usual reason why a command does not run.
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::AcquisitionTimeout => match error.holder() {
                Some(holder) => Self::Held { hash: error.key(), holder: holder.clone() },
                None => Self::WaitTimeout(error.key()),
            },
            _ => Self::Lock(error),
        }
    }
}

/// Names a lock by its hash, with which [messages](crate::report::name_keys) show its key.
fn lock(hash: &Option<DisplayHash>) -> String {
    hash.map_or_else(|| "the lock".to_owned(), |hash| format!("lock {hash}"))
}

fn known_stores(names: &[String]) -> String {
    if names.is_empty() {
        return "a URL has a colon, and no configuration file names stores".to_owned();
    }
    format!("the configuration file names {}", names.join(", "))
}
