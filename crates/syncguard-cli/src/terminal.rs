//! Which process group the terminal listens to.

use std::fs::{File, OpenOptions};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use rustix::{
    process::Pid,
    termios::{tcgetpgrp, tcsetpgrp},
};

/// The terminal that controls this process, whether or not it is among the standard streams.
#[derive(Debug)]
pub(crate) struct Terminal(File);

impl Terminal {
    /// Opens the terminal, `None` where no terminal controls this process.
    pub(crate) fn open() -> Option<Self> {
        OpenOptions::new().read(true).write(true).open("/dev/tty").ok().map(Self)
    }

    /// Tells whether `group` is in the foreground: it may read, and the keyboard's signals go to it.
    pub(crate) fn is_with(&self, group: Pid) -> bool {
        tcgetpgrp(&self.0).is_ok_and(|foreground| foreground == group)
    }

    /// Puts `group` into the foreground. A group that is gone, or a terminal that is, is no reason
    /// to give anything up.
    pub(crate) fn give_to(&self, group: Pid) {
        // Who does this from the background is stopped by SIGTTOU, unless it is blocked.
        let mut stop = SigSet::empty();
        stop.add(Signal::SIGTTOU);
        if let Ok(before) = stop.thread_swap_mask(SigmaskHow::SIG_BLOCK) {
            let _ = tcsetpgrp(&self.0, group);
            let _ = before.thread_set_mask();
        }
    }
}
