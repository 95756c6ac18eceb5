//! Brings up what a task needs.

use std::ffi::OsString;

use crate::{command::cargo, failure::Failure, say};

// Unoptimised it is built several times faster, and its own speed does not matter here.
const INSTALL_DENY: &str = "install --locked --debug cargo-deny";

/// What may be done about something that is needed and not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Install {
    Nothing,
    Missing,
}

impl Install {
    pub(crate) fn from_flag(install: bool) -> Self {
        if install { Self::Missing } else { Self::Nothing }
    }
}

/// A server that the tests of a backend talk to.
///
/// None yet: the memory and SQLite backends run inside the test process.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Server {}

/// The program that runs the tests.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Runner {
    Nextest,
    CargoTest,
}

/// What a test run was given.
#[derive(Debug)]
pub(crate) struct Provision {
    pub(crate) runner: Runner,
    /// Variables that tell the tests where their servers are.
    pub(crate) addresses: Vec<(String, OsString)>,
}

/// Brings up what a test run needs.
pub(crate) fn provide(needed: &[Server], install: Install) -> Result<Provision, Failure> {
    let addresses =
        needed.iter().map(|server| address(*server, install)).collect::<Result<_, _>>()?;
    Ok(Provision { runner: runner(), addresses })
}

// The order of finding a server: an address in the environment, a Docker engine with compose/,
// programs on PATH, and with `Install::Missing` the packages that hold them.
fn address(server: Server, _install: Install) -> Result<(String, OsString), Failure> {
    match server {}
}

fn runner() -> Runner {
    if cargo("nextest --version").succeeds() {
        say("runner    cargo nextest");
        Runner::Nextest
    } else {
        say("runner    cargo test, because cargo-nextest is not there");
        Runner::CargoTest
    }
}

/// Makes sure that cargo-deny can be run.
pub(crate) fn deny(install: Install) -> Result<(), Failure> {
    if cargo("deny --version").succeeds() {
        return Ok(());
    }
    match install {
        Install::Missing => cargo(INSTALL_DENY).run(),
        Install::Nothing => Err(Failure::DenyMissing { install: cargo(INSTALL_DENY).to_string() }),
    }
}
