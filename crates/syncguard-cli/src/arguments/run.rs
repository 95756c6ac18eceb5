use std::{num::NonZeroU32, time::Duration};

use clap::Args;
use syncguard::{LockKey, backend::Mode};

use super::{Leader, Work, duration};
use crate::exit::{EXIT_CODES, Exit};

/// Run a command while holding a lock
///
/// Waits for the lock, starts the command, renews the lock for as long as the command runs, and
/// releases it. The command finds the key in SYNCGUARD_KEY, the fence in SYNCGUARD_FENCE (15 digits,
/// as stores keep it) and in SYNCGUARD_FENCE_NUMBER (without leading zeros, which make a number octal
/// in the arithmetic of a shell), and the lock id in SYNCGUARD_LOCK_ID. It inherits SYNCGUARD_STORE
/// too, password included, unless --hide-store is set.
///
/// Signals are passed on to the command and all that it started: INT, TERM, HUP, QUIT, USR1, USR2,
/// ALRM, VTALRM, PROF, IO, XCPU, PWR, WINCH, CONT and TSTP. If the lock is lost, they are sent TERM,
/// and KILL soon after: 2.5 % of the ttl later, or 25 ms if that is longer. If syncguard itself is
/// killed, the kernel kills the command too (on Linux, and only the command, not what it started).
///
/// syncguard ends within a second of the command. If the store does not answer by then, syncguard
/// prints a warning, and the lock expires with its ttl.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Run {
    /// What to lock: any text of up to 512 bytes. Repeat it to hold several locks
    ///
    /// Several locks are taken in one order by all who use this, so that they do not deadlock; all
    /// of them or none. The variables of the command then end in _1, _2 and so on, in that order,
    /// and SYNCGUARD_KEYS is their number.
    #[arg(long = "key", value_name = "KEY", required = true)]
    pub(crate) keys: Vec<LockKey>,

    /// Share the lock with all who use this option too, as the readers of a read-write lock do
    ///
    /// This needs a single key.
    #[arg(long, conflicts_with = "permits")]
    shared: bool,

    /// Take one of N permits: at most N commands with this key run at the same time
    ///
    /// All who use the key must name the same number. This needs a single key.
    #[arg(long, value_name = "N")]
    permits: Option<NonZeroU32>,

    /// How long to wait for the lock, and before that for the store, or `forever`
    #[arg(long, value_name = "DURATION", default_value = "5s", conflicts_with = "no_wait")]
    #[arg(value_parser = duration::wait)]
    wait: Duration,

    /// Fail immediately if another holder has the lock
    #[arg(long)]
    no_wait: bool,

    /// Exit with N instead of 75 if another holder has the lock
    #[arg(long, value_name = "N")]
    conflict_exit_code: Option<u8>,

    /// Keep the lock for at least this long, even if the command ends earlier
    ///
    /// A machine whose clock is slow then does not run a short command of the same schedule again. It
    /// must not be longer than the ttl. syncguard itself ends with the command.
    #[arg(long, value_name = "DURATION", value_parser = duration::positive)]
    pub(crate) min_hold: Option<Duration>,

    /// End the command if it has held the lock for this long [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = duration::positive)]
    pub(crate) max_hold: Option<Duration>,

    /// Leave the lock to its ttl instead of releasing it when the command has ended
    ///
    /// The ttl counts from the last renewal. This limits how often a command runs.
    #[arg(long, conflicts_with = "min_hold")]
    pub(crate) keep: bool,

    #[command(flatten)]
    pub(crate) work: Work,
}

impl Run {
    /// Describes one term of a leader.
    pub(crate) fn term(leader: Leader) -> Self {
        Self {
            keys: vec![leader.key],
            shared: false,
            permits: None,
            wait: Duration::MAX,
            no_wait: false,
            conflict_exit_code: None,
            min_hold: None,
            max_hold: None,
            keep: false,
            work: leader.work,
        }
    }

    /// Returns whether others may hold the lock at the same time.
    pub(crate) fn mode(&self) -> Mode {
        match (self.shared, self.permits) {
            (false, None) => Mode::Exclusive,
            (_, permits) => Mode::Shared { permits },
        }
    }

    /// Returns how long to wait for the store and the lock.
    pub(crate) fn wait(&self) -> Duration {
        if self.no_wait { Duration::ZERO } else { self.wait }
    }

    /// Returns how to exit if another holder has the lock.
    pub(crate) fn conflict_exit(&self) -> Exit {
        self.conflict_exit_code.map_or(Exit::CONTENDED, Exit::Code)
    }
}
