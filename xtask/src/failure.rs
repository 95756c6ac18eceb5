//! The reason why a task failed.

use std::{io, process::ExitStatus};

use syncguard_testkit::{find::Missing, server::ServerError};
use thiserror::Error;

use crate::{
    api_list::ApiError, contract::MalformedLine, cycles::CyclesError, tree::DriversInCore,
};

#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error("`{line}` could not be run: {source}")]
    NotRun { line: String, source: io::Error },

    #[error("`{line}` failed: {status}")]
    Failed { line: String, status: ExitStatus },

    #[error(transparent)]
    Missing(#[from] Missing),

    #[error(transparent)]
    Server(#[from] ServerError),

    #[error("docker compose tells no address of {store}: {answer}")]
    NoAddress { store: &'static str, answer: String },

    #[error("the task could not be run: {0}")]
    Runtime(#[source] io::Error),

    #[error("the report of the contract suite could not be kept: {0}")]
    Report(#[source] io::Error),

    #[error(transparent)]
    MalformedReport(#[from] MalformedLine),

    #[error("no contract case was reported: a suite that ran nothing is not green")]
    NothingRan,

    #[error(
        "cargo-deny is not there: run `{install}`, or let this task do it with \
         `cargo xtask ci --install`"
    )]
    DenyMissing { install: String },

    #[error(
        "cargo-mutants is not there: run `{install}`, or let this task do it with \
         `cargo xtask mutants --install`"
    )]
    MutantsMissing { install: String },

    #[error("the database of advisories could not be fetched: {reason}")]
    NoAdvisories { reason: String },

    #[error(transparent)]
    DriversInCore(#[from] DriversInCore),

    #[error(transparent)]
    Api(#[from] ApiError),

    #[error(transparent)]
    Cycles(#[from] CyclesError),
}
