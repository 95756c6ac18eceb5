//! Supervises a command while it runs under its lock.

use std::{ffi::OsStr, time::Duration};

use rustix::process::Signal;
use tokio::time::{Instant, sleep_until};

use crate::{
    arguments::Work,
    child::{Change, Child},
    configuration,
    exit::Exit,
    failure::Failure,
    held::Held,
    job::{Job, Next},
    report::{note, say},
    signals::Signals,
    watch::Watch,
};

/// The consequence of a loss that was noticed only after the command had ended.
pub(crate) const OVERLAPPED: &str = "the command may have overlapped another";

/// Runs the command until it ends or the lock is lost. A loss is reported and ends the command.
pub(crate) async fn supervise(
    work: &Work,
    held: &Held,
    signals: &mut Signals,
) -> Result<Exit, Failure> {
    let mut command = Command::start(work, held)?;
    let exit = loop {
        if let Some(exit) = command.next(signals).await? {
            break exit;
        }
    };
    Ok(command.job.finish(&command.child, exit))
}

/// A running command and everything that affects it.
struct Command<'a> {
    held: &'a Held,
    watch: Watch<'a>,
    /// The signals by which a shell stops and continues a job.
    controls: Signals,
    job: Job,
    child: Child,
}

impl<'a> Command<'a> {
    fn start(work: &Work, held: &'a Held) -> Result<Self, Failure> {
        let variables = held.variables()?;
        let variables = variables.iter();
        let mut variables: Vec<_> = variables
            .map(|(name, value)| (name.as_str(), value.as_ref().map(OsStr::new)))
            .collect();
        if work.hide_store {
            variables.push((configuration::STORE, None));
        }
        let watch = Watch::new(held, work.ttl());
        let controls = Signals::of(&[Signal::TSTP, Signal::CONT]).map_err(Failure::Signals)?;
        let mut job = Job::new();
        let child = Child::start(&work.command(), &variables, job.placement());
        let child = child.map_err(Failure::Start)?;
        note(format_args!("the command runs as process {}", child.group().as_raw_pid()));
        Ok(Self { held, watch, controls, job, child })
    }

    /// Handles the next event; a loss comes before everything else.
    async fn next(&mut self, signals: &mut Signals) -> Result<Option<Exit>, Failure> {
        tokio::select! {
            biased;
            grace = self.watch.lost() => {
                self.end(grace, signals).await?;
                return Ok(Some(Exit::Lost));
            }
            change = self.child.changed() => match change.map_err(Failure::Wait)? {
                Change::Ended(status) => return Ok(Some(self.ended(status.into()))),
                Change::Stopped(signal) => self.stopped(signal).await,
            },
            // The signal may be received before the end of the command that preceded it: several
            // threads receive them. One that the command cannot handle any more ends the program.
            signal = signals.next() => if self.child.has_ended().map_err(Failure::Wait)? {
                signals.put_back(signal);
            } else {
                self.child.signal(signal);
            },
            signal = self.controls.next() => match signal {
                Signal::CONT => self.resume(),
                signal => self.child.signal(signal),
            },
        }
        Ok(None)
    }

    /// Ends a command that has lost its lock: with TERM, and after `grace` with KILL.
    ///
    /// **Invariant:** the command is sent its signal before anything is reported, and no message is
    /// waited for. From here on, another holder may have the lock at any moment.
    async fn end(&mut self, grace: Duration, signals: &mut Signals) -> Result<(), Failure> {
        let deadline = Instant::now() + grace;
        self.child.signal(if grace.is_zero() { Signal::KILL } else { Signal::TERM });
        say_lost(self.held.loss(), "ending the command");
        loop {
            tokio::select! {
                biased;
                () = sleep_until(deadline) => break,
                () = self.child.gone() => return Ok(()),
                signal = signals.next() => self.child.signal(signal),
            }
        }
        self.child.kill().await.map_err(Failure::Wait)
    }

    /// Judges the end of a command by the clock: this process may have stood still when the lock
    /// was lost.
    fn ended(&self, exit: Exit) -> Exit {
        note(format_args!("the command has ended: {exit}"));
        if self.held.is_valid() {
            return exit;
        }
        say_lost(self.held.loss(), OVERLAPPED);
        Exit::Lost
    }

    async fn stopped(&mut self, signal: Signal) {
        if self.job.follow(&self.child, signal).await == Next::Resume {
            self.resume();
        }
    }

    /// Continues the command, but not without the lock: in that case the next event ends the
    /// command.
    fn resume(&self) {
        if self.held.is_valid() {
            self.job.resume(&self.child);
        }
    }
}

/// Reports that the lock was lost, how, and what that means for the command.
pub(crate) fn say_lost(loss: Option<String>, consequence: &str) {
    let how = loss.map_or_else(String::new, |loss| format!("{loss}; "));
    say(format_args!("the lock was lost: {how}{consequence}"));
}
