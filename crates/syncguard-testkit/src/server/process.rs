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

const POLL: Duration = Duration::from_millis(2);
// What becomes of a process after SIGKILL is up to the kernel, and takes no time to speak of.
const DEATH_LIMIT: Duration = Duration::from_secs(10);

/// A process that was started here. Dropped, it is killed, and with it those that it started.
///
/// No signal reaches a stranger: a child keeps its number until it is waited for, and that happens
/// here alone.
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

    /// Says how it ended, if it did.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Kills it and its children as they stand, as a power failure would.
    pub(super) fn kill(&mut self) -> Result<(), ServerError> {
        let children = self.signal(|child, pid| {
            // It is stopped first, so that it cannot notice the death of a child or start another,
            // and cannot wait for its children, so that their numbers stay theirs.
            stop(pid)?;
            let children = signal_children(child.id(), Signal::KILL);
            kill_process(pid, Signal::KILL)?;
            child.wait()?;
            Ok(children)
        })?;
        await_death(&children);
        Ok(())
    }

    /// Stops it and its children; returns when it has stopped.
    pub(super) fn pause(&mut self) -> Result<(), ServerError> {
        self.signal(|child, pid| {
            stop(pid)?;
            signal_children(child.id(), Signal::STOP);
            Ok(())
        })
    }

    /// Lets it and its children go on.
    pub(super) fn resume(&mut self) -> Result<(), ServerError> {
        self.signal(go_on)
    }

    /// Asks it to end. A stopped one is resumed, or it could not.
    pub(super) fn ask_to_end(&mut self, signal: Signal) -> Result<(), ServerError> {
        self.signal(|child, pid| {
            kill_process(pid, signal)?;
            go_on(child, pid)
        })
    }

    /// Lets it outlive this handle.
    pub(super) fn leave(self) {
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
        // Either it has ended already, or there is nobody left to tell.
        let _ = self.kill();
    }
}

// The kernel sends the parent death signal when the *thread* that started the child ends, and the
// thread of a test ends with the test. This one ends with the process.
fn launch(command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::SyncSender<io::Result<Child>>);
    static LAUNCHER: LazyLock<io::Result<mpsc::Sender<Order>>> = LazyLock::new(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        let launcher = thread::Builder::new().name("launcher".to_owned());
        launcher.spawn(move || {
            for (mut command, reply) in orders {
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
    // The end of the process counts as well, or this could wait for ever. NOWAIT leaves the news of
    // either to whoever waits for the process.
    let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid), options)?;
    Ok(())
}

fn go_on(child: &mut Child, pid: Pid) -> io::Result<()> {
    signal_children(child.id(), Signal::CONT);
    Ok(kill_process(pid, Signal::CONT)?)
}

fn signal_children(parent: u32, signal: Signal) -> Vec<Stat> {
    let children = procfs::children(parent);
    for child in &children {
        // It may end at any time by itself.
        let _ = child.signal(signal);
    }
    children
}

/// Waits until none of them can do anything any more.
fn await_death(processes: &[Stat]) {
    let started = Instant::now();
    while processes.iter().any(Stat::is_alive) && started.elapsed() < DEATH_LIMIT {
        thread::sleep(POLL);
    }
}
