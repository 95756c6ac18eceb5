//! Looking after a command for as long as it runs under its lock.

use std::ffi::OsStr;

use rustix::process::Signal;
use syncguard::{LockGuard, Loss};

use crate::{
    arguments::Run,
    child::{Change, Child},
    exit::Exit,
    failure::Failure,
    job::{Job, Next},
    report::say,
    signals::Signals,
    watch::Watch,
};

/// What a loss means that was noticed only when the command had ended.
pub(crate) const OVERLAPPED: &str = "the command may have overlapped another";

/// How a command came to its end.
#[derive(Debug)]
pub(crate) enum End {
    /// By itself, under the lock to the last.
    Exited(Exit),
    /// The lock was lost before. That has been said.
    Lost,
}

/// Runs the command until it ends or the lock is lost; then it is ended.
pub(crate) async fn supervise(
    arguments: &Run,
    guard: &LockGuard,
    signals: &mut Signals,
) -> Result<End, Failure> {
    let mut command = Command::start(arguments, guard)?;
    let end = loop {
        if let Some(end) = command.next(signals).await? {
            break end;
        }
    };
    command.job.finish(&command.child);
    Ok(end)
}

/// A running command and what bears upon it.
struct Command<'a> {
    guard: &'a LockGuard,
    watch: Watch,
    /// The signals by which a shell stops and continues a job.
    controls: Signals,
    job: Job,
    child: Child,
}

impl<'a> Command<'a> {
    fn start(arguments: &Run, guard: &'a LockGuard) -> Result<Self, Failure> {
        let fence = guard.fence()?.to_string();
        let lock_id = guard.lock_id();
        let variables = [
            ("SYNCGUARD_KEY", OsStr::new(arguments.key.as_str())),
            ("SYNCGUARD_FENCE", OsStr::new(&fence)),
            ("SYNCGUARD_LOCK_ID", OsStr::new(lock_id.as_str())),
        ];
        let watch = Watch::new(guard.lease(), arguments.ttl);
        let controls = Signals::of(&[Signal::TSTP, Signal::CONT]).map_err(Failure::Signals)?;
        let mut job = Job::new();
        let child = Child::start(&arguments.command, variables, job.ground());
        Ok(Self { guard, watch, controls, job, child: child.map_err(Failure::Start)? })
    }

    /// Deals with the next thing that happens; a loss comes before everything else.
    async fn next(&mut self, signals: &mut Signals) -> Result<Option<End>, Failure> {
        tokio::select! {
            biased;
            grace = self.watch.lost() => {
                say_lost(self.guard.loss(), "ending the command");
                self.child.end(grace).await.map_err(Failure::Wait)?;
                return Ok(Some(End::Lost));
            }
            change = self.child.changed() => match change.map_err(Failure::Wait)? {
                Change::Ended(status) => return Ok(Some(self.ended(status.into()))),
                Change::Stopped(signal) => self.stopped(signal).await,
            },
            signal = signals.next() => self.child.signal(signal),
            signal = self.controls.next() => match signal {
                Signal::CONT => self.resume(),
                signal => self.child.signal(signal),
            },
        }
        Ok(None)
    }

    /// Judges an end by the clock: this process may have stood still when the lock was lost.
    fn ended(&self, exit: Exit) -> End {
        if self.guard.is_valid() {
            return End::Exited(exit);
        }
        say_lost(self.guard.loss(), OVERLAPPED);
        End::Lost
    }

    async fn stopped(&mut self, signal: Signal) {
        if self.job.follow(&self.child, signal).await == Next::Resume {
            self.resume();
        }
    }

    /// Continues the command, but not without the lock: the next thing that happens is its end then.
    fn resume(&self) {
        if self.guard.is_valid() {
            self.job.resume(&self.child);
        }
    }
}

/// Says that the lock was lost, how, and what that means for the command.
pub(crate) fn say_lost(loss: Option<Loss>, consequence: &str) {
    let how = loss.map_or_else(String::new, |loss| format!("{loss}; "));
    say(format_args!("the lock was lost: {how}{consequence}"));
}
