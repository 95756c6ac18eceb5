//! The signals that are sent to the program.

use std::{future::poll_fn, io, task::Poll};

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};

/// The signals that request termination.
const ENDING: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

/// The signals that a program may define a meaning for. All but `WINCH` end a program that does
/// not.
///
/// Not included are the signals with which the kernel reports a fault of this process, those that
/// stop and continue a job, and real-time signals, which rustix does not name.
const OTHERS: &[Signal] = &[
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::VTALARM,
    Signal::PROF,
    Signal::IO,
    Signal::XCPU,
    Signal::WINCH,
    #[cfg(target_os = "linux")]
    Signal::POWER,
];

/// Catches the signals that concern the command, so that none ends this process and leaves the
/// command, or the lock, behind.
///
/// A signal that was ignored when the program started stays ignored, here and in the command, as
/// with `nohup` and with the background jobs of a shell script.
#[derive(Debug)]
pub(crate) struct Signals {
    streams: Vec<(Signal, unix::Signal)>,
    /// A signal that was received, but not handled.
    kept: Option<Signal>,
}

impl Signals {
    pub(crate) fn catch() -> io::Result<Self> {
        Self::of(&[&ENDING, OTHERS].concat())
    }

    /// Catches `signals`, except those that are ignored.
    pub(crate) fn of(signals: &[Signal]) -> io::Result<Self> {
        let ignored = ignored();
        let caught = signals.iter().filter(|signal| !ignored.contains(**signal));
        let streams = caught.map(|signal| Ok((*signal, listen(*signal)?)));
        Ok(Self { streams: streams.collect::<io::Result<_>>()?, kept: None })
    }

    /// Waits for the next signal that ends a program by default.
    pub(crate) async fn terminating(&mut self) -> Signal {
        self.next_of(|signal| signal != Signal::WINCH).await
    }

    /// Waits for the next signal that requests termination.
    pub(crate) async fn ending(&mut self) -> Signal {
        self.next_of(|signal| ENDING.contains(&signal)).await
    }

    async fn next_of(&mut self, matches: impl Fn(Signal) -> bool) -> Signal {
        loop {
            let signal = self.next().await;
            if matches(signal) {
                return signal;
            }
        }
    }

    /// Makes `signal` the next one again, for the part of the program that handles it.
    pub(crate) fn put_back(&mut self, signal: Signal) {
        self.kept = Some(signal);
    }

    /// Waits for the next signal. One that arrives while no one waits is kept.
    pub(crate) async fn next(&mut self) -> Signal {
        if let Some(signal) = self.kept.take() {
            return signal;
        }
        poll_fn(|context| {
            let arrived = self.streams.iter_mut().find_map(|(signal, stream)| {
                let arrived = stream.poll_recv(context) == Poll::Ready(Some(()));
                arrived.then_some(*signal)
            });
            arrived.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

pub(crate) fn listen(signal: Signal) -> io::Result<unix::Signal> {
    unix::signal(SignalKind::from_raw(signal.as_raw()))
}

/// A set of signals as the kernel writes it: bit n - 1 for signal n.
#[derive(Clone, Copy, Debug)]
struct Mask(u64);

impl Mask {
    fn contains(self, signal: Signal) -> bool {
        u32::try_from(signal.as_raw() - 1).is_ok_and(|bit| self.0 >> bit & 1 == 1)
    }
}

/// Reads which signals this process ignores, if the system reports that without `unsafe`.
fn ignored() -> Mask {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    Mask(mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use rustix::process::Signal;

    use super::ignored;

    #[test]
    fn the_ignored_signals_are_read_from_the_kernel() {
        // Rust ignores SIGPIPE in every program; nothing ignores SIGTERM in a test.
        let ignored = ignored();
        assert!(ignored.contains(Signal::PIPE));
        assert!(!ignored.contains(Signal::TERM));
    }
}
