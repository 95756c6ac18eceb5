//! Runs programs, and prints their command lines.

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
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A call of a program in the root of the workspace.
#[derive(Debug)]
pub(crate) struct Call {
    /// The name in the printed command line, which may differ from the path of the program.
    name: String,
    command: Command,
}

/// The outcome of a run with a time limit.
#[derive(Debug)]
pub(crate) enum Attempt {
    Succeeded,
    Failed { reason: String },
}

/// Creates a call of the cargo that started this program, so that every step uses one toolchain.
///
/// The arguments are separated by white space; no argument may contain any.
pub(crate) fn cargo(arguments: &str) -> Call {
    let program = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    Call { name: "cargo".to_owned(), ..call(Path::new(&program), arguments) }
}

/// Creates a call of a program.
///
/// The arguments are separated by white space; no argument may contain any.
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

    /// Runs the program and shows its output.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        self.echo();
        let status = self.command.status();
        self.check(status)
    }

    /// Runs the program, shows its standard error and returns its standard output.
    pub(crate) fn read(self) -> Result<String, Failure> {
        self.echo();
        self.read_quietly()
    }

    /// As `read`, without printing the command line.
    pub(crate) fn read_quietly(mut self) -> Result<String, Failure> {
        let output = self.command.stderr(Stdio::inherit()).output();
        let output = output.map_err(|source| self.not_run(source))?;
        self.check(Ok(output.status))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs the program without showing its output, and returns whether it succeeds.
    pub(crate) fn succeeds(mut self) -> bool {
        let status = self.silence().stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    /// Runs the program without showing its output, and kills it after `limit`. A failure is an
    /// outcome, with the last line of the standard error.
    pub(crate) fn attempt(mut self, limit: Duration) -> Result<Attempt, Failure> {
        self.echo();
        self.attempt_quietly(limit).map_err(|source| self.not_run(source))
    }

    // The standard error is a file, because a pipe that a grandchild keeps open would exceed the
    // limit.
    fn attempt_quietly(&mut self, limit: Duration) -> io::Result<Attempt> {
        let stderr = NamedTempFile::new()?;
        let mut child = self.silence().stderr(stderr.reopen()?).spawn()?;
        let reason = match wait_timeout(&mut child, limit)? {
            Some(status) if status.success() => return Ok(Attempt::Succeeded),
            Some(status) => last_line(&String::from_utf8_lossy(&fs::read(stderr.path())?))
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

    fn check(&self, status: io::Result<ExitStatus>) -> Result<(), Failure> {
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

fn last_line(text: &str) -> Option<String> {
    let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    last.map(str::to_owned)
}

fn wait_timeout(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
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
        thread::sleep(POLL_INTERVAL);
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
    fn a_failed_attempt_returns_the_last_line_of_its_standard_error() {
        let Attempt::Failed { reason } =
            cargo("--no-such-option").attempt(Duration::from_secs(60)).unwrap()
        else {
            panic!("an unknown option was accepted");
        };
        assert!(reason.contains("--help"), "{reason}");
    }

    #[test]
    fn a_program_that_exceeds_its_limit_is_killed() {
        // It waits for its source text as long as this end of the pipe is open.
        let mut rustc = Command::new("rustc").arg("-").stdin(Stdio::piped()).spawn().unwrap();
        assert_eq!(wait_timeout(&mut rustc, Duration::ZERO).unwrap(), None);
        assert!(!rustc.wait().unwrap().success());
    }

    #[test]
    fn the_last_line_is_not_blank() {
        assert_eq!(last_line("first\n fatal: no host \n\n").as_deref(), Some("fatal: no host"));
        assert_eq!(last_line("\n"), None);
    }
}
