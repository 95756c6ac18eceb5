//! How the program exits.

use std::{
    fmt,
    os::unix::process::ExitStatusExt,
    process::{ExitCode, ExitStatus},
};

use rustix::process::{Signal, kill_current_process_group};
use signal_hook::low_level::emulate_default_handler;

/// The exit codes, as the help lists them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  that of the command; if a signal ended it, the same signal ends syncguard
  128 + n, as a shell shows it: the signal n ended the command, or came before it started
  64   the arguments are invalid; nothing was done
  69   the store cannot be used
  71   the operating system rejected an operation unexpectedly
  75   another holder has the lock; the command was not run (--conflict-exit-code)
  76   the lock was lost while the command ran; the command was ended
  126  the command cannot be executed
  127  the command was not found";

const LOST: u8 = 76;

/// How the program ends. Codes that are not the command's own are from `sysexits.h` where they mean
/// the same there, and from POSIX shells (126, 127).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// With this exit code.
    Code(u8),
    /// With the code of a lock that was lost while the command ran. It is next to that of
    /// [contention](Self::CONTENDED), but distinct: there the command did not run, here it did and may
    /// have overlapped another.
    Lost,
    /// By the signal of this number.
    Signal(i32),
    /// By a signal that the keyboard sent to the command alone, because the command had the
    /// terminal. The rest of the shell's job is sent it first: a shell script ends at Ctrl-C only
    /// if it receives the signal itself.
    JobSignal(i32),
}

impl Exit {
    pub(crate) const SUCCESS: Self = Self::Code(0);
    /// The user did not agree; nothing was done.
    pub(crate) const DECLINED: Self = Self::Code(1);
    /// `EX_USAGE`: nothing was done, because the arguments are invalid.
    pub(crate) const USAGE: Self = Self::Code(64);
    /// `EX_UNAVAILABLE`: the store cannot be used.
    pub(crate) const UNAVAILABLE: Self = Self::Code(69);
    /// `EX_OSERR`: the operating system unexpectedly rejected an operation.
    pub(crate) const SYSTEM: Self = Self::Code(71);
    /// `EX_IOERR`: the answer could not be written.
    pub(crate) const OUTPUT: Self = Self::Code(74);
    /// `EX_TEMPFAIL`: another holder has the lock.
    pub(crate) const CONTENDED: Self = Self::Code(75);
    /// `EX_CONFIG`: a setting of the store breaks a guarantee.
    pub(crate) const CONFIGURATION: Self = Self::Code(78);
    pub(crate) const NOT_EXECUTABLE: Self = Self::Code(126);
    pub(crate) const NOT_FOUND: Self = Self::Code(127);

    /// Ends the process by a signal; for a code, returns what `main` has to return.
    ///
    /// By the signal that ended a process, a shell decides whether to stop a loop, and a supervisor
    /// distinguishes a stop from a failure. An exit code of 128 + n does not show that.
    pub(crate) fn end(self) -> ExitCode {
        let number = match self {
            Self::Code(code) => return code.into(),
            Self::Lost => return LOST.into(),
            Self::Signal(number) => number,
            Self::JobSignal(number) => {
                if let Some(signal) = Signal::from_named_raw(number) {
                    let _ = kill_current_process_group(signal);
                }
                number
            }
        };
        // The command's core dump is the one that may be wanted; a dump of this process would
        // expose the store's password.
        forbid_core_dump();
        // Returns for a signal that ends no process, and for one that the kernel does not know.
        let _ = emulate_default_handler(number);
        u8::try_from(number).map_or(u8::MAX, |number| number.saturating_add(128)).into()
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Lost => write!(f, "exit code {LOST}"),
            Self::Signal(number) | Self::JobSignal(number) => write!(f, "signal {number}"),
        }
    }
}

impl From<Signal> for Exit {
    fn from(signal: Signal) -> Self {
        Self::Signal(signal.as_raw())
    }
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            // The kernel keeps eight bits of a code.
            (Some(code), _) => Self::Code(u8::try_from(code).unwrap_or(u8::MAX)),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::SYSTEM,
        }
    }
}

#[cfg(target_os = "linux")]
fn forbid_core_dump() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};

    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

#[cfg(not(target_os = "linux"))]
fn forbid_core_dump() {
    use rustix::process::{Resource, Rlimit, setrlimit};

    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = setrlimit(Resource::Core, none);
}
