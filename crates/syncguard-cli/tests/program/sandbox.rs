//! A directory with its own store, and handles on the programs that are started in it.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, PipeReader, PipeWriter, Read, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    fs::{OFlags, fcntl_setfl},
    process::{Pid, Signal, kill_process},
};
use syncguard::{
    LockManager,
    backend::{Capabilities, LockRecord},
    sqlite::{SqliteBackend, SqliteConfig},
};
use tempfile::TempDir;

/// The key that every test locks.
pub(crate) const KEY: &str = "nightly-report";

/// How long [`wait_until`] waits.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_syncguard"));
    // The tests must use neither the default store of the user nor the user's configuration.
    for name in ["STORE", "CONFIG", "OWNER", "TTL"] {
        program.env_remove(format!("SYNCGUARD_{name}"));
    }
    program.env_remove("XDG_STATE_HOME").env_remove("XDG_CONFIG_HOME").env_remove("HOME");
    program.stdin(Stdio::null());
    program
}

pub(crate) struct Sandbox(TempDir);

impl Sandbox {
    pub(crate) fn new() -> Self {
        // The directory for temporary files may be in memory, of which the program warns.
        Self(TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("locks.db")
    }

    /// Returns `syncguard <verb> --key KEY --store …`, in this directory.
    pub(crate) fn program(&self, verb: &str) -> Command {
        self.command(&[verb, "--key", KEY])
    }

    /// Returns `syncguard <arguments> --store …`, in this directory.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut program = program();
        program.current_dir(self.0.path()).args(arguments).arg("--store");
        program.arg(format!("sqlite:{}", self.store().display()));
        program
    }

    /// Returns `syncguard run … <options> -- sh -c <script>`.
    pub(crate) fn run(&self, options: &[&str], script: &str) -> Command {
        let mut program = self.program("run");
        program.args(options).args(["--", "sh", "-c", script]);
        program
    }

    /// Starts a holder and waits until it holds the lock, which it keeps until its input ends.
    pub(crate) fn hold(&self, options: &[&str]) -> Running {
        let mut holder = Running::start(&mut self.run(options, "echo held; read line; exit 0"));
        assert_eq!(holder.read_line(), "held");
        holder
    }

    /// Opens the store as another program would.
    pub(crate) async fn locks(&self) -> LockManager {
        LockManager::new(SqliteBackend::connect(SqliteConfig::new(self.store())).await.unwrap())
    }
}

pub(crate) async fn lookup(locks: &LockManager) -> Option<LockRecord> {
    let key: syncguard::LockKey = KEY.parse().unwrap();
    locks.lookup_raw(&key.into()).await.unwrap()
}

/// Waits until a grant without a renewal would have expired.
pub(crate) async fn wait_past_expiry(locks: &LockManager, ttl: Duration) {
    loop {
        let record = lookup(locks).await.unwrap();
        if record.observed_at.since(record.acquired_at) > ttl + Capabilities::GRACE {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A running program, which is killed if the test ends first.
pub(crate) struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    /// Starts a program. Its standard input is open until [`finish`](Self::finish).
    pub(crate) fn start(program: &mut Command) -> Self {
        Self::start_with(program, Stdio::piped())
    }

    /// As [`start`](Self::start), with this standard error.
    pub(crate) fn start_with(program: &mut Command, stderr: impl Into<Stdio>) -> Self {
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = program.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Reads the next line of the program's output.
    pub(crate) fn read_line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Reads the next line that the program, started with a pipe, writes to its standard error.
    pub(crate) fn read_error_line(&mut self) -> String {
        let mut line = Vec::new();
        let stderr = self.child.stderr.as_mut().unwrap();
        while stderr.take(1).read_to_end(&mut line).unwrap() == 1 && !line.ends_with(b"\n") {}
        String::from_utf8(line).unwrap()
    }

    /// Reads the program's output up to the first such byte.
    pub(crate) fn read_until(&mut self, end: u8) -> String {
        let mut bytes = Vec::new();
        self.stdout.read_until(end, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// Writes to the program's standard input.
    pub(crate) fn write_stdin(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub(crate) fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Closes the program's standard input and waits until it exits.
    pub(crate) fn finish(mut self) -> Output {
        self.close_input();
        self.wait()
    }

    /// Waits until the program exits; returns its output since the last
    /// [`read_line`](Self::read_line).
    pub(crate) fn wait(mut self) -> Output {
        let mut status = None;
        wait_until("the program ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let mut output = Output { status: status.unwrap(), stdout: Vec::new(), stderr: Vec::new() };
        self.stdout.read_to_end(&mut output.stdout).unwrap();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_end(&mut output.stderr).unwrap();
        }
        output
    }

    /// Waits until the program has opened the store. It registers its signal handlers before that.
    pub(crate) fn wait_for_store(&self, store: &Path) {
        let files = format!("/proc/{}/fd", self.child.id());
        wait_until("the program opens its store", || {
            let mut files = fs::read_dir(&files).unwrap().flatten();
            files.any(|file| fs::read_link(file.path()).is_ok_and(|target| target == store))
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Polls until something has happened.
pub(crate) fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < WAIT_TIMEOUT, "waited in vain until {what}");
        sleep(Duration::from_millis(2));
    }
}

/// Returns whether a process is running. A zombie is not.
pub(crate) fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

pub(crate) fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap().trim_end()
}

/// Returns the only line that the program has printed to stderr.
#[track_caller]
pub(crate) fn only_line(output: &Output) -> &str {
    let stderr = str::from_utf8(&output.stderr).unwrap();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr.trim_end()
}

#[track_caller]
pub(crate) fn assert_code(output: &Output, code: i32) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{:?}: {stderr}", output.status);
}

/// Asserts that the program was ended by `signal`, not by an exit code that reports the signal.
#[track_caller]
pub(crate) fn assert_signal(output: &Output, signal: Signal) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(signal.as_raw()), "{:?}: {stderr}", output.status);
}

/// Creates a full pipe, to which nothing can be written without blocking.
pub(crate) fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    for size in [4096, 1] {
        while writer.write(&vec![b'.'; size]).is_ok() {}
    }
    assert_eq!(writer.write(b".").unwrap_err().kind(), ErrorKind::WouldBlock);
    fcntl_setfl(&writer, OFlags::empty()).unwrap();
    (reader, writer)
}
