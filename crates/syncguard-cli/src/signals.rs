//! The signals that ask the program to end.

use std::{future::poll_fn, io, task::Poll};

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};

/// Those that are passed on to the command.
const ENDING: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

/// Catches the signals that ask the program to end.
///
/// One that was ignored when the program started stays ignored, here and in the command: so it is
/// with `nohup`, and with the background jobs of a shell script.
#[derive(Debug)]
pub(crate) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    pub(crate) fn catch() -> io::Result<Self> {
        Self::of(&ENDING)
    }

    /// Catches `signals`, but for those that are ignored.
    pub(crate) fn of(signals: &[Signal]) -> io::Result<Self> {
        let ignored = ignored();
        let heard = signals.iter().filter(|signal| !ignored.contains(**signal));
        let streams = heard.map(|signal| Ok((*signal, listen(*signal)?)));
        streams.collect::<io::Result<_>>().map(Self)
    }

    /// Waits for the next signal. One that comes while nobody waits is kept.
    pub(crate) async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            let arrived = self.0.iter_mut().find_map(|(signal, stream)| {
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

/// Reads which signals this process ignores, where the system tells without `unsafe`.
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
