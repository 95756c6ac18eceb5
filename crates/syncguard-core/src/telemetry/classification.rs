//! The classification of results for telemetry. All outcomes and errors are classified here.

use super::{Outcome, Reason};
use crate::{
    Error, ErrorKind, Fence, LockId, ReleaseOutcome,
    backend::{AcquireOutcome, ExtendOutcome, Finding, LockPage, LockRecord, NotHeld, RetirePage},
};

/// How an operation ended, and the fence and the lock id that its result contains.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Classification {
    pub(super) outcome: Outcome,
    pub(super) reason: Option<Reason>,
    pub(super) fence: Option<Fence>,
    pub(super) lock_id: Option<LockId>,
}

impl Classification {
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

    pub(crate) fn ok_with(fence: Fence, lock_id: Option<LockId>) -> Self {
        Self { fence: Some(fence), lock_id, ..Self::OK }
    }
}

/// A result that can be classified.
pub(crate) trait Classify {
    fn classify(&self) -> Classification;
}

impl<T: Classify> Classify for Result<T, Error> {
    fn classify(&self) -> Classification {
        self.as_ref().map_or_else(Classify::classify, Classify::classify)
    }
}

impl Classify for Error {
    fn classify(&self) -> Classification {
        match self.kind() {
            ErrorKind::AcquisitionTimeout => Classification::LOCKED,
            ErrorKind::Lost => Classification::fail(Reason::Error(ErrorKind::Lost)),
            ErrorKind::Aborted => Classification::CANCELLED,
            kind => Classification::new(Outcome::Error, Some(Reason::Error(kind))),
        }
    }
}

impl Classify for AcquireOutcome {
    fn classify(&self) -> Classification {
        match self {
            Self::Granted(grant) => Classification::ok_with(grant.fence, None),
            Self::Contended { .. } => Classification::LOCKED,
        }
    }
}

impl Classify for ExtendOutcome {
    fn classify(&self) -> Classification {
        match self {
            Self::Extended { .. } => Classification::OK,
            Self::NotHeld(reason) => reason.classify(),
        }
    }
}

impl Classify for ReleaseOutcome {
    fn classify(&self) -> Classification {
        match self {
            Self::Released => Classification::OK,
            Self::NotHeld(reason) => reason.classify(),
        }
    }
}

impl Classify for NotHeld {
    fn classify(&self) -> Classification {
        Classification::fail(match self {
            Self::Expired => Reason::Expired,
            Self::NotFound => Reason::NotFound,
            Self::Unknown => Reason::NotHeld,
        })
    }
}

/// The result of a lookup or of a forced release.
impl Classify for Option<LockRecord> {
    fn classify(&self) -> Classification {
        self.as_ref().map_or(Classification::fail(Reason::NotFound), |record| {
            Classification::ok_with(record.fence, Some(record.lock_id))
        })
    }
}

/// The return value of work under a lock. It does not affect the outcome.
pub(crate) struct WorkOutput<T>(pub(crate) T);

impl<T> Classify for WorkOutput<T> {
    fn classify(&self) -> Classification {
        Classification::OK
    }
}

impl Classify for LockPage {
    fn classify(&self) -> Classification {
        Classification::OK
    }
}

impl Classify for RetirePage {
    fn classify(&self) -> Classification {
        Classification::OK
    }
}

impl Classify for Vec<Finding> {
    fn classify(&self) -> Classification {
        Classification::OK
    }
}

/// Whether a key is locked. Both results are successes.
impl Classify for bool {
    fn classify(&self) -> Classification {
        Classification::OK
    }
}

impl Classify for () {
    fn classify(&self) -> Classification {
        Classification::OK
    }
}
