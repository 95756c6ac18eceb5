//! The command while it runs.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{self, Command, ExitStatus},
    time::Duration,
};

use nix::sys::signal::{SigSet, Signal::SIGCHLD};
use rustix::{
    io::Errno,
    process::{
        Pid, Signal, WaitId, WaitIdOptions, kill_process_group, test_kill_process_group, waitid,
    },
};
use tokio::{signal::unix, time::sleep};

use crate::{
    arguments::{Launch, Placement},
    signals::listen,
};

/// A started command, in a process group of its own.
#[derive(Debug)]
pub(crate) struct Child {
    process: process::Child,
    group: Pid,
    /// Notifies of every child that ended, stopped or continued.
    changes: unix::Signal,
}

/// How a command ended or paused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Ended(ExitStatus),
    Stopped(Signal),
}

impl Child {
    /// Starts `command` through [`launch`](crate::launch), with these variables set, or removed if
    /// they have no value.
    ///
    /// Must be called on the main thread: the kernel ends the child with the thread that started
    /// it.
    pub(crate) fn start(
        command: &[OsString],
        variables: &[(&str, Option<&OsStr>)],
        placement: Placement,
    ) -> io::Result<Self> {
        // Registered first, so that a child that ends immediately is noticed; and unblocked, in
        // case our own parent left the signal blocked: then no child would ever be noticed.
        let changes = listen(Signal::CHILD)?;
        SigSet::from(SIGCHLD).thread_unblock()?;
        let mut launch = Command::new(own_program()?);
        launch.arg0("syncguard").arg(Launch::NAME).arg(format!("--parent={}", process::id()));
        if placement == Placement::Foreground {
            launch.arg("--foreground");
        }
        for (name, value) in variables {
            match value {
                Some(value) => launch.env(name, value),
                None => launch.env_remove(name),
            };
        }
        let process = launch.arg("--").args(command).process_group(0).spawn()?;
        let group = Pid::from_child(&process);
        Ok(Self { process, group, changes })
    }

    pub(crate) fn group(&self) -> Pid {
        self.group
    }

    /// Sends `signal` to the command and to all that it started in its group. An empty group is not
    /// an error.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.group, signal);
    }

    /// Returns whether the command has ended.
    pub(crate) fn has_ended(&mut self) -> io::Result<bool> {
        Ok(self.process.try_wait()?.is_some())
    }

    /// Waits until the command ends or is stopped.
    pub(crate) async fn changed(&mut self) -> io::Result<Change> {
        loop {
            if let Some(status) = self.process.try_wait()? {
                return Ok(Change::Ended(status));
            }
            if let Some(signal) = self.stopped()? {
                return Ok(Change::Stopped(signal));
            }
            self.changes.recv().await;
        }
    }

    fn stopped(&self) -> io::Result<Option<Signal>> {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        match waitid(WaitId::Pid(self.group), options) {
            Ok(status) => {
                let signal = status.and_then(|status| status.stopping_signal());
                Ok(signal.and_then(Signal::from_named_raw))
            }
            // It has ended since the last check; the signal that reports it is still pending.
            Err(Errno::CHILD) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Kills the whole group, and waits for the command's end.
    pub(crate) async fn kill(&mut self) -> io::Result<()> {
        self.signal(Signal::KILL);
        while !matches!(self.changed().await?, Change::Ended(_)) {}
        Ok(())
    }

    /// Waits until no process is left in the group. No event reports the end of grandchildren, so
    /// it polls.
    pub(crate) async fn gone(&mut self) {
        while !matches!(self.process.try_wait(), Ok(Some(_)))
            || test_kill_process_group(self.group).is_ok()
        {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Finds the running program itself, even if another was installed in its place since it was
/// started.
fn own_program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { env::current_exe() }
}
