use syncguard_core::{BootInstant, Fence, LockKey, backend::Mode};

use super::record::Incarnation;

/// One hold of one lock by one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The process.
    pub process: Incarnation,
    /// The key of the lock.
    pub key: LockKey,
    /// The fence of the grant.
    pub fence: Fence,
    /// The mode of the grant.
    pub mode: Mode,
    /// When the process began to wait for the lock.
    pub requested: BootInstant,
    /// When the process knew that it held the lock.
    pub entered: BootInstant,
    /// How, and when, the hold ended.
    pub end: End,
    /// When the store confirmed the release.
    pub released: Option<BootInstant>,
    /// When the store reported the lock as not held, although the lease was valid.
    pub not_held: Option<BootInstant>,
}

/// How a hold or a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The process left: it released the lock, or ceased to wait. Of a hold, this is the last time at
    /// which the process knew that it held the lock.
    Left(BootInstant),
    /// The process died. This is the time at which its death was certain, or the end of the lease of
    /// a hold if that is earlier.
    Died(BootInstant),
    /// The records contain no end.
    Open,
}

impl End {
    pub(super) fn of(left: Option<BootInstant>, died: Option<BootInstant>) -> Self {
        left.map(Self::Left).or(died.map(Self::Died)).unwrap_or(Self::Open)
    }

    /// Returns the time of the end, `None` without an end.
    pub(super) fn at(self) -> Option<BootInstant> {
        match self {
            Self::Left(at) | Self::Died(at) => Some(at),
            Self::Open => None,
        }
    }
}

impl Entry {
    /// Creates a hold without an end.
    pub(super) fn new(
        process: Incarnation,
        key: LockKey,
        fence: Fence,
        mode: Mode,
        requested: BootInstant,
        entered: BootInstant,
    ) -> Self {
        let (end, released, not_held) = (End::Open, None, None);
        Self { process, key, fence, mode, requested, entered, end, released, not_held }
    }

    /// Returns when the hold ended, `None` if it did not end.
    pub fn left(&self) -> Option<BootInstant> {
        self.end.at()
    }
}
