//! The arguments of `launch`, which no user types.

use std::ffi::OsString;

use clap::Args;

/// Become the command, as the child that `run` starts
#[derive(Debug, Args)]
pub(crate) struct Launch {
    /// The process that must still be the parent
    #[arg(long)]
    pub(crate) parent: i32,

    /// Take the terminal's foreground
    #[arg(long)]
    foreground: bool,

    #[arg(last = true, required = true)]
    pub(crate) command: Vec<OsString>,
}

/// Whether a process group is in the foreground of the terminal, where it may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    Foreground,
    Background,
}

impl Launch {
    pub(crate) fn placement(&self) -> Placement {
        if self.foreground { Placement::Foreground } else { Placement::Background }
    }
}
