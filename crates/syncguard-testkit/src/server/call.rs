use std::{
    process::{Command, Stdio},
    time::Duration,
};

use tokio::time::timeout;

use super::ServerError;

/// How long a program may take that lays out data or asks a server. A stopped server never answers.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs a program to its end and gives what it printed, without the white space around it.
pub(crate) async fn call(command: Command) -> Result<String, ServerError> {
    let line = line(&command);
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let Ok(output) = timeout(LIMIT, command.output()).await else {
        return Err(ServerError::Hung { line, limit: LIMIT });
    };
    let output = output.map_err(ServerError::cannot(format!("run `{line}`")))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return Ok(printed.trim().to_owned());
    }
    let complaints = String::from_utf8_lossy(&output.stderr);
    Err(ServerError::Failed {
        line,
        status: output.status,
        output: format!("{}\n{}", printed.trim(), complaints.trim()),
    })
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}
