//! Runs every check that a change has to pass.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    api,
    api_list::Changes,
    command::{Attempt, ROOT, cargo},
    cycles,
    failure::Failure,
    provision::{self, Install},
    say::say,
    test, tree,
};

const FETCH_TIMEOUT: Duration = Duration::from_secs(60);

/// The variable that is set on the hosted runner, which has network access.
const HOSTED: &str = "GITHUB_ACTIONS";

/// Whether this run includes the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tests {
    Run,
    AlreadyRun,
}

impl Tests {
    pub(crate) fn from_after_test(after_test: bool) -> Self {
        if after_test { Self::AlreadyRun } else { Self::Run }
    }
}

pub(crate) fn run(install: Install, tests: Tests) -> Result<(), Failure> {
    // Checked first, so that a missing tool is reported before the long steps.
    provision::deny(install)?;
    cargo("fmt --all --check").run()?;
    cargo("clippy --workspace --all-targets --all-features -- -D warnings").run()?;
    if tests == Tests::Run {
        test::run(install)?;
    }
    documentation()?;
    api::run(Changes::Refuse)?;
    cargo("deny check bans licenses sources").run()?;
    advisories()?;
    core_names_no_driver()?;
    Ok(cycles::check(&crates())?)
}

/// Returns the root files of all crates.
fn crates() -> Vec<PathBuf> {
    let workspace = Path::new(ROOT);
    let crates = fs::read_dir(workspace.join("crates")).into_iter().flatten().flatten();
    let folders = crates.map(|entry| entry.path());
    let folders = folders.chain([workspace.join("xtask")]);
    let roots =
        folders.flat_map(|folder| ["lib.rs", "main.rs"].map(|root| folder.join("src").join(root)));
    roots.filter(|root| root.exists()).collect()
}

fn documentation() -> Result<(), Failure> {
    cargo("doc --workspace --all-features --no-deps").env("RUSTDOCFLAGS", "-D warnings").run()
}

/// Checks for advisories, if their database can be fetched.
///
/// It cannot be fetched without network access. The check itself fails in the same way for that and
/// for an advisory, so the fetch is a separate step, whose failure is tolerated except on the
/// hosted runner.
fn advisories() -> Result<(), Failure> {
    match cargo("deny fetch db").env("GIT_TERMINAL_PROMPT", "0").attempt(FETCH_TIMEOUT)? {
        Attempt::Succeeded => cargo("deny check advisories").run(),
        Attempt::Failed { reason } if env::var_os(HOSTED).is_some() => {
            Err(Failure::NoAdvisories { reason })
        }
        Attempt::Failed { reason } => {
            say(format_args!(
                "advisories were NOT checked: their database could not be fetched ({reason})"
            ));
            Ok(())
        }
    }
}

fn core_names_no_driver() -> Result<(), Failure> {
    let tree = cargo("tree -p syncguard-core -e normal --all-features --prefix none").read()?;
    Ok(tree::check(&tree)?)
}
