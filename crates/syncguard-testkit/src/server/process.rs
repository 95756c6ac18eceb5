use std::{
    io, mem,
    process::{Child, Command, ExitStatus},
    sync::{LazyLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::{
    ServerError,
    procfs::{self, Stat},
};

const POLL_INTERVAL: Duration = Duration::from_millis(2);
// After SIGKILL only the kernel is involved, which takes almost no time.
const DEATH_TIMEOUT: Duration = Duration::from_secs(10);

/// A child process. Dropping the handle kills it and its children.
///
/// No signal reaches another process: a child keeps its pid until it is waited for, and only this
/// handle waits for it.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
}

impl Process {
    pub(super) fn spawn(command: Command) -> io::Result<Self> {
        launch(command).map(|child| Self { child })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the exit status, if the process has exited.
    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Kills the process and its children without warning, as a power failure would.
    pub(super) fn kill(&mut self) -> Result<(), ServerError> {
        let children = self.signal(|child, pid| {
            // The process is stopped first, so that it cannot react to the death of a child or
            // start another, and cannot wait for its children, so that their pids are not reused.
            stop(pid)?;
            let children = signal_children(child.id(), Signal::KILL);
            kill_process(pid, Signal::KILL)?;
            child.wait()?;
            Ok(children)
        })?;
        await_death(&children);
        Ok(())
    }

    /// Stops the process and its children; returns when the process has stopped.
    pub(super) fn pause(&mut self) -> Result<(), ServerError> {
        self.signal(|child, pid| {
            stop(pid)?;
            signal_children(child.id(), Signal::STOP);
            Ok(())
        })
    }

    /// Resumes the process and its children.
    pub(super) fn resume(&mut self) -> Result<(), ServerError> {
        self.signal(resume)
    }

    /// Sends the process a signal to exit. A stopped process is resumed, because it could not exit
    /// otherwise.
    pub(super) fn terminate(&mut self, signal: Signal) -> Result<(), ServerError> {
        self.signal(|child, pid| {
            kill_process(pid, signal)?;
            resume(child, pid)
        })
    }

    /// Consumes the handle without killing the process.
    pub(super) fn detach(self) {
        mem::forget(self);
    }

    fn signal<T>(
        &mut self,
        act: impl FnOnce(&mut Child, Pid) -> io::Result<T>,
    ) -> Result<T, ServerError> {
        let failed = ServerError::cannot("signal a server");
        match self.child.try_wait() {
            Ok(None) => {
                let pid = Pid::from_child(&self.child);
                act(&mut self.child, pid).map_err(failed)
            }
            Ok(Some(_)) => Err(ServerError::NotRunning),
            Err(source) => Err(failed(source)),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have exited already. If not, there is no caller to return the error to.
        let _ = self.kill();
    }
}

// The kernel sends the parent death signal when the *thread* that started the child ends, and the
// thread of a test ends with the test. The launcher thread ends with the process.
fn launch(command: Command) -> io::Result<Child> {
    type Request = (Command, mpsc::SyncSender<io::Result<Child>>);
    static LAUNCHER: LazyLock<io::Result<mpsc::Sender<Request>>> = LazyLock::new(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        let launcher = thread::Builder::new().name("launcher".to_owned());
        launcher.spawn(move || {
            for (mut command, reply) in requests {
                let _ = reply.send(command.spawn());
            }
        })?;
        Ok(sender)
    });
    let gone = || io::Error::other("the launcher thread is gone");
    let launcher = LAUNCHER.as_ref().map_err(|_| gone())?;
    let (reply, launched) = mpsc::sync_channel(1);
    launcher.send((command, reply)).map_err(|_| gone())?;
    launched.recv().map_err(|_| gone())?
}

fn stop(pid: Pid) -> io::Result<()> {
    kill_process(pid, Signal::STOP)?;
    // The exit of the process counts as well, otherwise this could wait forever. NOWAIT leaves the
    // status to the caller that waits for the process.
    let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid), options)?;
    Ok(())
}

fn resume(child: &mut Child, pid: Pid) -> io::Result<()> {
    signal_children(child.id(), Signal::CONT);
    Ok(kill_process(pid, Signal::CONT)?)
}

fn signal_children(parent: u32, signal: Signal) -> Vec<Stat> {
    let children = procfs::children(parent);
    for child in &children {
        // The child may exit at any time by itself.
        let _ = child.signal(signal);
    }
    children
}

/// Waits until no process is alive.
fn await_death(processes: &[Stat]) {
    let started = Instant::now();
    while processes.iter().any(Stat::is_alive) && started.elapsed() < DEATH_TIMEOUT {
        thread::sleep(POLL_INTERVAL);
    }
}
