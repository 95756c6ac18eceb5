//! Why the program could not do what was requested.

use std::{io, path::PathBuf};

use syncguard::{Error, ErrorKind, Holder};

use crate::exit::Exit;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("not run: the lock is {0}")]
    Held(Holder),
    #[error("not run: timed out waiting for the lock")]
    WaitTimeout,
    #[error("timed out waiting for the lock to become free")]
    StillHeld,
    #[error(transparent)]
    Lock(Error),
    #[error("not run: the store did not answer within the wait")]
    StoreTimeout,
    #[error("--shared and --permits are for a single --key")]
    SharedKeys,
    #[error("there is no terminal to ask on; to end the lock without being asked, add --yes")]
    NoConsent,
    #[error("no store: neither XDG_STATE_HOME nor HOME is an absolute path; name one with --store")]
    NoHome,
    #[error("only postgres:// and mysql:// stores have a schema; name one with --store")]
    NoSchema,
    #[error("SYNCGUARD_STORE is not UTF-8")]
    StoreNotUtf8,
    #[error("the directory of the store, {}, cannot be made", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("the command cannot be started")]
    Start(#[source] io::Error),
    #[error("the command cannot be waited for")]
    Wait(#[source] io::Error),
    #[error("signals cannot be caught")]
    Signals(#[source] io::Error),
    #[error("the event loop cannot be started")]
    Runtime(#[source] io::Error),
    #[error("the answer cannot be written")]
    Output(#[source] io::Error),
}

impl Failure {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Held(_) | Self::WaitTimeout | Self::StillHeld => Exit::CONTENDED,
            Self::Lock(error) => match error.kind() {
                ErrorKind::InvalidArgument => Exit::USAGE,
                ErrorKind::Lost => Exit::Lost,
                _ => Exit::UNAVAILABLE,
            },
            Self::SharedKeys
            | Self::NoConsent
            | Self::NoHome
            | Self::NoSchema
            | Self::StoreNotUtf8 => Exit::USAGE,
            Self::StoreTimeout | Self::Directory { .. } => Exit::UNAVAILABLE,
            Self::Start(_) => Exit::NOT_EXECUTABLE,
            Self::Wait(_) | Self::Signals(_) | Self::Runtime(_) => Exit::SYSTEM,
            Self::Output(_) => Exit::OUTPUT,
        }
    }
}

impl From<Error> for Failure {
    /// Words contention for a person: the hash of the key, which an error carries, means nothing to
    /// a user who has just typed the key.
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::AcquisitionTimeout => {
                error.holder().cloned().map_or(Self::WaitTimeout, Self::Held)
            }
            _ => Self::Lock(error),
        }
    }
}
