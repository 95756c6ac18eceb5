use std::{
    fmt::{self, Debug, Formatter},
    io,
    process::ExitStatus,
    time::Duration,
};

use thiserror::Error;

use crate::find::Missing;

/// Says why a server could not be started, stopped or asked.
///
/// Its `Debug` is its `Display`, because a test that unwraps it shows the former.
#[derive(Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A program is not there.
    #[error(transparent)]
    Missing(#[from] Missing),

    /// The system refused something.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: String,
        /// What the system said.
        source: io::Error,
    },

    /// A program that should have done something ended with an error.
    #[error("`{line}` failed: {status}\n{output}")]
    Failed {
        /// What was run.
        line: String,
        /// How it ended.
        status: ExitStatus,
        /// What it printed.
        output: String,
    },

    /// A program that should have done something had not ended in time.
    #[error("`{line}` had not ended after {limit:?}")]
    TimedOut {
        /// What was run.
        line: String,
        /// How long it was given.
        limit: Duration,
    },

    /// The server ended instead of answering.
    #[error("{program} ended before it answered: {status}\n{log}")]
    Exited {
        /// What was started.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed.
        log: String,
    },

    /// The server neither answered nor ended.
    #[error("{program} did not answer within {limit:?}\n{log}")]
    NotReady {
        /// What was started.
        program: &'static str,
        /// How long it was given.
        limit: Duration,
        /// The end of what it printed.
        log: String,
    },

    /// Others listen on every port that was tried.
    #[error("{program} found no free port among {tried:?}")]
    PortsTaken {
        /// What was started.
        program: &'static str,
        /// The ports, in the order in which they were tried.
        tried: Vec<u16>,
    },

    /// The server has been stopped.
    #[error("the server is not running")]
    NotRunning,

    /// The server refuses to run as root, and there is nobody else to run it.
    #[error("{program} refuses to run as root, and there is no user named {}", .candidates.join(" or "))]
    NoUser {
        /// What was to be started.
        program: &'static str,
        /// Who could have run it.
        candidates: &'static [&'static str],
    },

    /// A group of servers did not come to agree in time.
    #[error("{what} was not reached within {limit:?}\n{seen}")]
    NoAgreement {
        /// What was waited for.
        what: &'static str,
        /// How long it was waited for.
        limit: Duration,
        /// What was seen last.
        seen: String,
    },
}

impl Debug for ServerError {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl ServerError {
    /// Names what was tried, for an error of the system.
    pub(crate) fn cannot(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::System { action, source }
    }
}
