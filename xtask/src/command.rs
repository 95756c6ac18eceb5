//! Runs a program, echoing its command line.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt::{self, Display, Formatter},
    fs, io,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::NamedTempFile;

use crate::{failure::Failure, say::say};

pub(crate) const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const POLL: Duration = Duration::from_millis(100);

/// A call of a program in the root of the workspace.
#[derive(Debug)]
pub(crate) struct Call {
    /// What the command line shows, which need not be the path of the program.
    name: String,
    command: Command,
}

/// How a bounded run ended.
#[derive(Debug)]
pub(crate) enum Attempt {
    Succeeded,
    Failed { reason: String },
}

/// Prepares a call of the cargo that started this program, so that every step uses one tool chain.
///
/// The arguments are separated by white space; none may hold any.
pub(crate) fn cargo(arguments: &str) -> Call {
    let program = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    Call { name: "cargo".to_owned(), ..call(Path::new(&program), arguments) }
}

/// Prepares a call of a program.
///
/// The arguments are separated by white space; none may hold any.
pub(crate) fn call(program: &Path, arguments: &str) -> Call {
    let mut command = Command::new(program);
    command.args(arguments.split_whitespace()).current_dir(ROOT);
    Call { name: program.display().to_string(), command }
}

impl Call {
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn envs(mut self, variables: &[(String, OsString)]) -> Self {
        self.command.envs(variables.iter().map(|(name, value)| (name, value)));
        self
    }

    /// Runs it, showing what it prints.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        self.echo();
        let status = self.command.status();
        self.judge(status)
    }

    /// Runs it, showing what it complains about and returning what it prints.
    pub(crate) fn read(self) -> Result<String, Failure> {
        self.echo();
        self.read_quietly()
    }

    /// As `read`, for a question on the way.
    pub(crate) fn read_quietly(mut self) -> Result<String, Failure> {
        let output = self.command.stderr(Stdio::inherit()).output();
        let output = output.map_err(|source| self.not_run(source))?;
        self.judge(Ok(output.status))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs it unseen, to learn whether it can be run at all.
    pub(crate) fn succeeds(mut self) -> bool {
        let status = self.silence().stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    /// Runs it unseen and ends it after `limit`; a failure is an outcome, told by its last words.
    pub(crate) fn attempt(mut self, limit: Duration) -> Result<Attempt, Failure> {
        self.echo();
        self.attempt_unseen(limit).map_err(|source| self.not_run(source))
    }

    // A file takes the complaints, because a pipe that a grandchild keeps open outlasts the limit.
    fn attempt_unseen(&mut self, limit: Duration) -> io::Result<Attempt> {
        let complaints = NamedTempFile::new()?;
        let mut child = self.silence().stderr(complaints.reopen()?).spawn()?;
        let reason = match wait_within(&mut child, limit)? {
            Some(status) if status.success() => return Ok(Attempt::Succeeded),
            Some(status) => last_words(&String::from_utf8_lossy(&fs::read(complaints.path())?))
                .unwrap_or_else(|| status.to_string()),
            None => format!("it had not ended after {limit:?}"),
        };
        Ok(Attempt::Failed { reason })
    }

    fn silence(&mut self) -> &mut Command {
        self.command.stdin(Stdio::null()).stdout(Stdio::null())
    }

    fn echo(&self) {
        say(format_args!("$ {self}"));
    }

    fn judge(&self, status: io::Result<ExitStatus>) -> Result<(), Failure> {
        let status = status.map_err(|source| self.not_run(source))?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::Failed { line: self.to_string(), status })
    }

    fn not_run(&self, source: io::Error) -> Failure {
        Failure::NotRun { line: self.to_string(), source }
    }
}

impl Display for Call {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        for (name, value) in self.command.get_envs() {
            let value = value.unwrap_or_default();
            write!(formatter, "{}={} ", name.display(), quoted(&value.to_string_lossy()))?;
        }
        formatter.write_str(&self.name)?;
        for argument in self.command.get_args() {
            write!(formatter, " {}", argument.display())?;
        }
        Ok(())
    }
}

fn quoted(value: &str) -> String {
    if value.contains(char::is_whitespace) { format!("'{value}'") } else { value.to_owned() }
}

fn last_words(complaints: &str) -> Option<String> {
    let last = complaints.lines().rev().map(str::trim).find(|line| !line.is_empty());
    last.map(str::to_owned)
}

fn wait_within(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() >= limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_shows_the_variables_set_for_it() {
        let doc = cargo("doc --no-deps").env("RUSTDOCFLAGS", "-D warnings").env("LEVEL", "1");
        assert_eq!(doc.to_string(), "LEVEL=1 RUSTDOCFLAGS='-D warnings' cargo doc --no-deps");
    }

    #[test]
    fn a_failed_run_names_its_command_line() {
        let failure = cargo("no-such-command").run().unwrap_err();
        assert!(failure.to_string().starts_with("`cargo no-such-command` failed: "), "{failure}");
    }

    #[test]
    fn a_failed_attempt_tells_its_last_words() {
        let Attempt::Failed { reason } =
            cargo("--no-such-option").attempt(Duration::from_secs(60)).unwrap()
        else {
            panic!("an unknown option was accepted");
        };
        assert!(reason.contains("--help"), "{reason}");
    }

    #[test]
    fn a_program_that_outlasts_its_limit_is_ended() {
        // It waits for its source text as long as this end of the pipe stays open.
        let mut rustc = Command::new("rustc").arg("-").stdin(Stdio::piped()).spawn().unwrap();
        assert_eq!(wait_within(&mut rustc, Duration::ZERO).unwrap(), None);
        assert!(!rustc.wait().unwrap().success());
    }

    #[test]
    fn last_words_skip_blank_lines() {
        assert_eq!(last_words("first\n fatal: no host \n\n").as_deref(), Some("fatal: no host"));
        assert_eq!(last_words("\n"), None);
    }
}
