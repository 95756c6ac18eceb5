//! Which process group has the terminal.

use std::fs::{File, OpenOptions};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use rustix::{
    process::Pid,
    termios::{tcgetpgrp, tcsetpgrp},
};

/// The controlling terminal of this process, whether or not it is among the standard streams.
#[derive(Debug)]
pub(crate) struct Terminal(File);

impl Terminal {
    /// Opens the terminal. Returns `None` if this process has no controlling terminal.
    pub(crate) fn open() -> Option<Self> {
        OpenOptions::new().read(true).write(true).open("/dev/tty").ok().map(Self)
    }

    /// Returns whether `group` is in the foreground: it may read, and receives the keyboard's
    /// signals.
    pub(crate) fn is_with(&self, group: Pid) -> bool {
        tcgetpgrp(&self.0).is_ok_and(|foreground| foreground == group)
    }

    /// Puts `group` into the foreground. Ignores a group or a terminal that no longer exists.
    pub(crate) fn give_to(&self, group: Pid) {
        // A background process that does this is stopped by SIGTTOU, unless the signal is blocked.
        let mut stop = SigSet::empty();
        stop.add(Signal::SIGTTOU);
        if let Ok(before) = stop.thread_swap_mask(SigmaskHow::SIG_BLOCK) {
            let _ = tcsetpgrp(&self.0, group);
            let _ = before.thread_set_mask();
        }
    }
}
