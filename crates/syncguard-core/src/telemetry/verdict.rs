//! Classification of answers: the one place that sorts outcomes and errors for telemetry.

use super::{Outcome, Reason};
use crate::{
    AcquireOutcome, Error, ErrorKind, ExtendOutcome, Fence, Finding, LockId, LockPage, LockRecord,
    NotHeld, ReleaseOutcome,
};

/// How an operation ended, and what it revealed about the lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdict {
    pub(super) outcome: Outcome,
    pub(super) reason: Option<Reason>,
    pub(super) fence: Option<Fence>,
    pub(super) lock_id: Option<LockId>,
}

impl Verdict {
    pub(crate) const OK: Self = Self::new(Outcome::Ok, None);
    pub(crate) const CANCELLED: Self = Self::new(Outcome::Cancelled, None);
    /// Another holder has the lock.
    pub(crate) const LOCKED: Self = Self::fail(Reason::Locked);

    const fn new(outcome: Outcome, reason: Option<Reason>) -> Self {
        Self { outcome, reason, fence: None, lock_id: None }
    }

    const fn fail(reason: Reason) -> Self {
        Self::new(Outcome::Fail, Some(reason))
    }

    pub(crate) fn found(fence: Fence, lock_id: Option<LockId>) -> Self {
        Self { fence: Some(fence), lock_id, ..Self::OK }
    }
}

/// A result that can be classified.
pub(crate) trait Judged {
    fn verdict(&self) -> Verdict;
}

impl<T: Judged> Judged for Result<T, Error> {
    fn verdict(&self) -> Verdict {
        self.as_ref().map_or_else(Judged::verdict, Judged::verdict)
    }
}

impl Judged for Error {
    fn verdict(&self) -> Verdict {
        match self.kind() {
            ErrorKind::AcquisitionTimeout => Verdict::LOCKED,
            ErrorKind::Lost => Verdict::fail(Reason::Error(ErrorKind::Lost)),
            ErrorKind::Aborted => Verdict::CANCELLED,
            kind => Verdict::new(Outcome::Error, Some(Reason::Error(kind))),
        }
    }
}

impl Judged for AcquireOutcome {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Granted(grant) => Verdict::found(grant.fence, None),
            Self::Contended { .. } => Verdict::LOCKED,
        }
    }
}

impl Judged for ExtendOutcome {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Extended { .. } => Verdict::OK,
            Self::NotHeld(why) => why.verdict(),
        }
    }
}

impl Judged for ReleaseOutcome {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Released => Verdict::OK,
            Self::NotHeld(why) => why.verdict(),
        }
    }
}

impl Judged for NotHeld {
    fn verdict(&self) -> Verdict {
        Verdict::fail(match self {
            Self::Expired => Reason::Expired,
            Self::NotFound => Reason::NotFound,
            Self::Unknown => Reason::NotHeld,
        })
    }
}

/// What a lookup or a forced release found.
impl Judged for Option<LockRecord> {
    fn verdict(&self) -> Verdict {
        self.as_ref().map_or(Verdict::fail(Reason::NotFound), |record| {
            Verdict::found(record.fence, Some(record.lock_id))
        })
    }
}

/// The return value of the work, which is independent of the lock.
pub(crate) struct Done<T>(pub(crate) T);

impl<T> Judged for Done<T> {
    fn verdict(&self) -> Verdict {
        Verdict::OK
    }
}

impl Judged for LockPage {
    fn verdict(&self) -> Verdict {
        Verdict::OK
    }
}

impl Judged for Vec<Finding> {
    fn verdict(&self) -> Verdict {
        Verdict::OK
    }
}

/// Whether a key is locked: both answers are successes.
impl Judged for bool {
    fn verdict(&self) -> Verdict {
        Verdict::OK
    }
}

impl Judged for () {
    fn verdict(&self) -> Verdict {
        Verdict::OK
    }
}
