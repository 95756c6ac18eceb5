use std::{
    process::{Command, Stdio},
    time::Duration,
};

use tokio::time::timeout;

use super::ServerError;

/// The time limit of a program that creates a data directory or queries a server. A stopped server
/// never answers.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs a program until it exits and returns its standard output, trimmed.
pub(crate) async fn call(command: Command) -> Result<String, ServerError> {
    let line = line(&command);
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let Ok(output) = timeout(CALL_TIMEOUT, command.output()).await else {
        return Err(ServerError::TimedOut { line, limit: CALL_TIMEOUT });
    };
    let output = output.map_err(ServerError::cannot(format!("run `{line}`")))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return Ok(stdout.trim().to_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(ServerError::Failed {
        line,
        status: output.status,
        output: format!("{}\n{}", stdout.trim(), stderr.trim()),
    })
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}
