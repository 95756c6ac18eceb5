//! Runs every test of the workspace.

use std::{fs, path::Path};

use syncguard_testkit::find::Store;
use tempfile::NamedTempFile;

use crate::{
    command::{Call, cargo},
    contract::Report,
    failure::Failure,
    provision::{self, Install, Provision, Runner},
    say::say,
};

/// The servers that the tests need. The memory and SQLite backends run inside the test process.
pub(crate) const SERVERS: &[Store] = &Store::ALL;
const REPORT_PATH: &str = "SYNCGUARD_CONTRACT_REPORT";
// Many contract cases wait for real time to pass, so more of them may run than there are cores.
const THREADS: &str = "8";

pub(crate) fn run(install: Install) -> Result<(), Failure> {
    let provision = provision::provide(SERVERS, install)?;
    let report = NamedTempFile::new().map_err(Failure::Report)?;
    let tested = tests(&provision, report.path());
    // The report is printed even if a test failed.
    let reported = print_report(report.path());
    tested.and(reported)
}

fn tests(provision: &Provision, report: &Path) -> Result<(), Failure> {
    let steps = [suites(provision.runner), cargo("test --workspace --all-features --doc")];
    let results = steps.map(|step| step.envs(&provision.addresses).env(REPORT_PATH, report).run());
    results.into_iter().collect()
}

fn suites(runner: Runner) -> Call {
    match runner {
        Runner::Nextest => cargo("nextest run --workspace --all-features"),
        Runner::CargoTest => {
            cargo("test --workspace --all-features --no-fail-fast --lib --bins --tests --examples")
                .env("RUST_TEST_THREADS", THREADS)
        }
    }
}

fn print_report(path: &Path) -> Result<(), Failure> {
    let report: Report = fs::read_to_string(path).map_err(Failure::Report)?.parse()?;
    if report.is_empty() {
        return Err(Failure::NothingRan);
    }
    say(format_args!("{report}"));
    Ok(())
}
