//! What the program ends with.

use std::{
    os::unix::process::ExitStatusExt,
    process::{ExitCode, ExitStatus},
};

/// An exit code. Those that are not the command's own are from `sysexits.h` where they mean the
/// same there, and from POSIX shells (126, 127, 128 + n).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit(u8);

impl Exit {
    pub(crate) const SUCCESS: Self = Self(0);
    /// `EX_USAGE`: nothing was done, because what was asked makes no sense.
    pub(crate) const USAGE: Self = Self(64);
    /// `EX_UNAVAILABLE`: the store cannot be used.
    pub(crate) const UNAVAILABLE: Self = Self(69);
    /// `EX_OSERR`: the operating system refused something it should not.
    pub(crate) const SYSTEM: Self = Self(71);
    /// `EX_IOERR`: the answer could not be written.
    pub(crate) const OUTPUT: Self = Self(74);
    /// `EX_TEMPFAIL`: somebody else has the lock.
    pub(crate) const CONTENDED: Self = Self(75);
    /// The lock was lost while the command ran. It lies beside [`CONTENDED`](Self::CONTENDED), and
    /// apart from it: then the command did not run, here it did and may have overlapped another.
    pub(crate) const LOST: Self = Self(76);
    pub(crate) const NOT_EXECUTABLE: Self = Self(126);
    pub(crate) const NOT_FOUND: Self = Self(127);

    /// Ends as a shell does whose command was ended by a signal.
    pub(crate) fn signalled(number: i32) -> Self {
        Self(u8::try_from(number).map_or(u8::MAX, |number| number.saturating_add(128)))
    }
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            // The kernel keeps eight bits of a code.
            (Some(code), _) => Self(u8::try_from(code).unwrap_or(u8::MAX)),
            (None, Some(signal)) => Self::signalled(signal),
            (None, None) => Self::SYSTEM,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}
