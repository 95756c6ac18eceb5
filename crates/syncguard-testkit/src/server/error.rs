use std::{
    fmt::{self, Debug, Formatter},
    io,
    process::ExitStatus,
    time::Duration,
};

use thiserror::Error;

use crate::find::Missing;

/// The reason why a server could not be started, stopped or queried.
///
/// `Debug` is the same as `Display`, because a test that unwraps an error shows the former.
#[derive(Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A program is not installed.
    #[error(transparent)]
    Missing(#[from] Missing),

    /// A system call failed.
    #[error("cannot {action}: {source}")]
    System {
        /// The attempted action.
        action: String,
        /// The error of the system.
        source: io::Error,
    },

    /// A program failed.
    #[error("`{line}` failed: {status}\n{output}")]
    Failed {
        /// The command line.
        line: String,
        /// The exit status.
        status: ExitStatus,
        /// The standard output and the standard error.
        output: String,
    },

    /// A program did not exit in time.
    #[error("`{line}` had not ended after {limit:?}")]
    TimedOut {
        /// The command line.
        line: String,
        /// The time limit.
        limit: Duration,
    },

    /// The server exited before it was ready.
    #[error("{program} ended before it answered: {status}\n{log}")]
    Exited {
        /// The program of the server.
        program: &'static str,
        /// The exit status.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },

    /// The server was not ready in time, and did not exit.
    #[error("{program} did not answer within {limit:?}\n{log}")]
    NotReady {
        /// The program of the server.
        program: &'static str,
        /// The time limit.
        limit: Duration,
        /// The end of its log.
        log: String,
    },

    /// Other processes listen on every port that was tried.
    #[error("{program} found no free port among {tried:?}")]
    PortsTaken {
        /// The program of the server.
        program: &'static str,
        /// The ports, in the order in which they were tried.
        tried: Vec<u16>,
    },

    /// The server is not running.
    #[error("the server is not running")]
    NotRunning,

    /// The server refuses to run as root, and there is no other user to run it.
    #[error("{program} refuses to run as root, and there is no user named {}", .candidates.join(" or "))]
    NoUser {
        /// The program of the server.
        program: &'static str,
        /// The users that could run it.
        candidates: &'static [&'static str],
    },

    /// A group of servers did not agree in time.
    #[error("{what} was not reached within {limit:?}\n{seen}")]
    NoAgreement {
        /// The awaited state.
        what: &'static str,
        /// The time limit.
        limit: Duration,
        /// The state that was seen last.
        seen: String,
    },
}

impl Debug for ServerError {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl ServerError {
    /// Adds the attempted action to an error of the system.
    pub(crate) fn cannot(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::System { action, source }
    }
}
