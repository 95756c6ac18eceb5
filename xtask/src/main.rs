//! Runs the development tasks of the workspace: `cargo xtask <task>`.

mod api;
mod api_list;
mod apt;
mod block_on;
mod chaos;
mod ci;
mod command;
mod contract;
mod cycles;
mod docker;
mod failure;
mod mutants;
mod provision;
mod say;
mod services;
mod test;
mod tree;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{
    api_list::Changes, ci::Tests, failure::Failure, mutants::Progress, provision::Install,
};

/// Runs the development tasks of the workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Runs every test of the workspace, and says what the contract suite ran on each backend
    ///
    /// A server is that of REDIS_URL; or else one in a container, where a Docker engine is there; or
    /// else one that the tests start by programs on PATH. Tests that break a server always start
    /// their own. Firestore is that of FIRESTORE_EMULATOR_HOST, or else Google's emulator in a
    /// container, or else the double of this workspace, which cargo builds.
    ///
    /// The contract suite leaves out the backends that SYNCGUARD_SKIP names, and lists their
    /// cases as skipped
    Test {
        /// Install with apt-get, on Debian or Ubuntu, what the tests need and is not there
        /// (today: redis-server and redis-cli)
        #[arg(long)]
        install: bool,
    },
    /// Runs every check that a change has to pass, the tests among them
    Ci {
        /// Install what the checks need and is not there: for the tests as `test --install` does,
        /// and cargo-deny with `cargo install`
        #[arg(long)]
        install: bool,
        /// Leave the tests out, because they have just been run
        #[arg(long)]
        after_test: bool,
    },
    /// Plants small bugs in the lock layer and in the memory backend, one after the other, and lists those
    /// that no test notices
    ///
    /// All of them take hours. What is left out, and why, is in .cargo/mutants.toml; the outcome is in
    /// target/mutants.out.
    Mutants {
        /// Install cargo-mutants with `cargo install` where it is not there
        #[arg(long)]
        install: bool,
        /// Leave out the mutants that an earlier run has caught
        #[arg(long)]
        resume: bool,
        /// The files to plant them in, instead of all
        files: Vec<String>,
    },
    /// Runs a storm over each store: processes lock in all modes, and are killed and stopped at any
    /// moment. Then checks who held what, and when
    ///
    /// The servers are started for it. A violation, or too few holds, is a failure.
    Chaos {
        /// Install with apt-get, on Debian or Ubuntu, what is needed and not there
        #[arg(long)]
        install: bool,
        /// How long the storm over each store lasts
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Soak the stores instead, each for so many minutes: one process drops many futures in
        /// flight, and then nothing may be left over
        #[arg(
            long,
            value_name = "MINUTES",
            num_args = 0..=1,
            require_equals = true,
            default_missing_value = "10"
        )]
        soak: Option<u64>,
        /// sqlite, redis, postgres, mariadb, firestore, instead of all
        stores: Vec<String>,
    },
    /// Compares the public API of each published library with the list in its folder, public-api.txt
    Api {
        /// Write the lists instead
        #[arg(long)]
        accept: bool,
    },
    /// Keeps servers running, for people who want to look into them or to test against them
    Services {
        #[command(subcommand)]
        task: services::Task,
    },
}

fn main() -> ExitCode {
    if let Some(exit) = api::stand_in_for_rustdoc() {
        return exit;
    }
    match dispatch(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(task: Task) -> Result<(), Failure> {
    match task {
        Task::Test { install } => test::run(Install::from_flag(install)),
        Task::Ci { install, after_test } => {
            ci::run(Install::from_flag(install), Tests::from_after_test(after_test))
        }
        Task::Mutants { install, resume, files } => {
            mutants::run(Install::from_flag(install), Progress::from_flag(resume), &files)
        }
        Task::Chaos { install, seconds, soak, stores } => {
            chaos::run(Install::from_flag(install), seconds, soak, &stores)
        }
        Task::Api { accept } => api::run(Changes::from_flag(accept)),
        Task::Services { task } => services::run(&task),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }
}
