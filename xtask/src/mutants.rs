//! Plants small bugs, one after the other, and lists those that no test notices.

use crate::{
    command::cargo,
    failure::Failure,
    provision::{self, Install},
};

/// The tests of the types and of the lock layer over the memory backend, and the contract suite on it.
/// They run in virtual time, or quickly, and need no server. Most mutants fail one of the first, and
/// the profile of nextest ends a run with its first failure.
const TESTS: &str = "--test-tool nextest --all-features \
    --test-package syncguard-core --test-package syncguard-memory \
    -- --profile mutants --lib --test layer --test contract";

/// What is mutated where no file is named: the lock layer and the memory backend.
const FILES: &[&str] = &["crates/syncguard-core/src/lock/*.rs", "crates/syncguard-memory/src/*.rs"];

/// Whether mutants that an earlier run has caught are planted again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Anew,
    Resume,
}

impl Start {
    pub(crate) fn from_flag(resume: bool) -> Self {
        if resume { Self::Resume } else { Self::Anew }
    }
}

pub(crate) fn run(install: Install, start: Start, files: &[String]) -> Result<(), Failure> {
    provision::mutants(install)?;
    cargo(&arguments(start, files)).run()
}

/// The settings and the list of survivors that are accepted are in `.cargo/mutants.toml`.
fn arguments(start: Start, files: &[String]) -> String {
    let default = FILES.iter().map(|file| (*file).to_owned()).collect::<Vec<_>>();
    let files = if files.is_empty() { &default } else { files };
    let files: String = files.iter().map(|file| format!("--file {file} ")).collect();
    let iterate = if start == Start::Resume { "--iterate " } else { "" };
    format!("mutants --output target {iterate}{files}{TESTS}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_named_take_the_place_of_the_default() {
        let all = arguments(Start::Anew, &[]);
        assert!(FILES.iter().all(|file| all.contains(&format!("--file {file} "))), "{all}");
        let one = arguments(Start::Anew, &["crates/x.rs".to_owned()]);
        assert!(one.contains("--file crates/x.rs --test-tool"), "{one}");
        assert!(FILES.iter().all(|file| !one.contains(file)), "{one}");
    }

    #[test]
    fn a_run_that_was_stopped_can_be_continued() {
        assert!(arguments(Start::Resume, &[]).contains(" --iterate --file "));
        assert!(!arguments(Start::Anew, &[]).contains("--iterate"));
    }
}
