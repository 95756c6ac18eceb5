use std::{env, fs::OpenOptions, io::Write};

use super::Verdict;

/// Appends a line to the report, if one is wanted. One write, so that lines of tests that run side
/// by side do not mix.
pub(super) fn append(backend: &str, case: &str, verdict: Verdict) {
    let (word, reason) = match verdict {
        Verdict::Passed => ("passed", ""),
        Verdict::Skipped(reason) => ("skipped", reason),
    };
    if verdict != Verdict::Passed {
        tracing::warn!(backend, case, reason, "contract case skipped");
    }
    let Some(path) = env::var_os("SYNCGUARD_CONTRACT_REPORT") else {
        return;
    };
    let file = OpenOptions::new().append(true).create(true).open(path);
    let line = format!("{backend}\t{case}\t{word}\t{reason}\n");
    file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the report can be written");
}
