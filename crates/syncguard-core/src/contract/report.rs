use std::{env, fs::OpenOptions, io::Write};

/// The outcome of a case that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaseOutcome {
    /// The case passed.
    Passed,
    /// The case was not run, for this reason.
    Skipped(&'static str),
}

impl From<()> for CaseOutcome {
    fn from((): ()) -> Self {
        Self::Passed
    }
}

impl From<Result<(), Self>> for CaseOutcome {
    fn from(result: Result<(), Self>) -> Self {
        result.err().unwrap_or(Self::Passed)
    }
}

/// Appends a line to the report, if one is requested. It is one write, so that lines of parallel
/// tests do not mix.
pub(super) fn append(backend: &str, case: &str, outcome: CaseOutcome) {
    let (word, reason) = match outcome {
        CaseOutcome::Passed => ("passed", ""),
        CaseOutcome::Skipped(reason) => ("skipped", reason),
    };
    if outcome != CaseOutcome::Passed {
        tracing::warn!(backend, case, reason, "contract case skipped");
    }
    let Some(path) = env::var_os("SYNCGUARD_CONTRACT_REPORT") else {
        return;
    };
    let file = OpenOptions::new().append(true).create(true).open(path);
    let line = format!("{backend}\t{case}\t{word}\t{reason}\n");
    file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the report can be written");
}
