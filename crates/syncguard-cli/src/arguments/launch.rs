//! The arguments of the child that `run` starts, which no user types.

use std::ffi::OsString;

use clap::Parser;

/// Become the command, as the child that `run` starts
#[derive(Debug, Parser)]
#[command(name = Self::NAME)]
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
    /// The first argument, which is no subcommand: no help, completion or manual page contains it.
    pub(crate) const NAME: &str = "launch";

    pub(crate) fn placement(&self) -> Placement {
        if self.foreground { Placement::Foreground } else { Placement::Background }
    }
}
