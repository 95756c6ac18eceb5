//! Plants small bugs, one after the other, and lists those that no test detects.

use crate::{
    command::cargo,
    failure::Failure,
    provision::{self, Install},
};

/// The tests of the types and of the lock layer over the memory backend, and the contract suite on
/// it. They run in virtual time, or quickly, and need no server. Most mutants fail one of the
/// first, and the profile of nextest ends a run with its first failure.
const TESTS: &str = "--test-tool nextest --all-features \
    --test-package syncguard-core --test-package syncguard-memory \
    -- --profile mutants --lib --test layer --test contract";

/// The files that are mutated by default: the lock layer and the memory backend.
const FILES: &[&str] = &["crates/syncguard-core/src/lock/*.rs", "crates/syncguard-memory/src/*.rs"];

/// Whether the mutants that an earlier run has caught are tested again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Discard,
    Resume,
}

impl Progress {
    pub(crate) fn from_flag(resume: bool) -> Self {
        if resume { Self::Resume } else { Self::Discard }
    }
}

pub(crate) fn run(install: Install, progress: Progress, files: &[String]) -> Result<(), Failure> {
    provision::mutants(install)?;
    cargo(&arguments(progress, files)).run()
}

/// The settings and the list of accepted survivors are in `.cargo/mutants.toml`.
fn arguments(progress: Progress, files: &[String]) -> String {
    let default = FILES.iter().map(|file| (*file).to_owned()).collect::<Vec<_>>();
    let files = if files.is_empty() { &default } else { files };
    let files: String = files.iter().map(|file| format!("--file {file} ")).collect();
    let iterate = if progress == Progress::Resume { "--iterate " } else { "" };
    format!("mutants --output target {iterate}{files}{TESTS}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_files_replace_the_default() {
        let all = arguments(Progress::Discard, &[]);
        assert!(FILES.iter().all(|file| all.contains(&format!("--file {file} "))), "{all}");
        let one = arguments(Progress::Discard, &["crates/x.rs".to_owned()]);
        assert!(one.contains("--file crates/x.rs --test-tool"), "{one}");
        assert!(FILES.iter().all(|file| !one.contains(file)), "{one}");
    }

    #[test]
    fn a_stopped_run_can_be_resumed() {
        assert!(arguments(Progress::Resume, &[]).contains(" --iterate --file "));
        assert!(!arguments(Progress::Discard, &[]).contains("--iterate"));
    }
}
