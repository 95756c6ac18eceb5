use std::{fmt, time::Duration};

use crate::{DisplayHash, ErrorKind, Fence, LockId, LockKey, Loss, Operation};

/// Tells of one operation at a backend that is over.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// What was done.
    pub operation: Operation,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, unless it ended well.
    pub reason: Option<Reason>,
    /// The hash of the key, where the operation is about one that is known.
    pub key_hash: Option<DisplayHash>,
    /// The hash of the lock id, where the operation is about one that is known.
    pub lock_id_hash: Option<DisplayHash>,
    /// The fence of the grant that was made or found.
    pub fence: Option<Fence>,
    /// How long it took, until it was dropped where it was cancelled.
    pub duration: Duration,
    /// The key itself, only [on request](crate::telemetry::ObservedBuilder::reveal).
    pub key: Option<LockKey>,
    /// The lock id itself, only [on request](crate::telemetry::ObservedBuilder::reveal). Whoever
    /// knows it can release the lock.
    pub lock_id: Option<LockId>,
    /// How many events were lost because the observer was too slow, since it was told the one before:
    /// they may also have come after this one.
    pub missed: u64,
}

/// Says how an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// As it was meant to.
    Ok,
    /// It was answered with no: somebody else has the lock, or the id holds none.
    Fail,
    /// Its caller stopped waiting for it. It may have been carried out all the same.
    Cancelled,
    /// It was not answered, or with an error.
    Error,
}

impl Outcome {
    /// Returns its name in spans and metrics, which stays as it is.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Cancelled => "cancelled",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Says why an operation did not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Somebody else has the lock.
    Locked,
    /// The grant is over.
    Expired,
    /// Nothing is on record under the key or the id.
    NotFound,
    /// The id holds nothing: one of the two above, or somebody took it away.
    NotHeld,
    /// The lock was held for as long as `max_hold` allows.
    MaxHold,
    /// The scope of the lock was cancelled.
    Cancelled,
    /// An error of this kind.
    Error(ErrorKind),
}

impl Reason {
    /// Returns its name in spans and metrics, which stays as it is: that of the kind for an error.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::Expired => "expired",
            Self::NotFound => "not-found",
            Self::NotHeld => "not-held",
            Self::MaxHold => "max-hold",
            Self::Cancelled => "cancelled",
            Self::Error(kind) => kind.as_str(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Loss> for Reason {
    fn from(loss: Loss) -> Self {
        match loss {
            Loss::Expired => Self::Expired,
            Loss::NotHeld => Self::NotHeld,
            Loss::MaxHold => Self::MaxHold,
            Loss::Cancelled => Self::Cancelled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Reason};
    use crate::ErrorKind;

    /// Dashboards and alerts are written against them.
    #[test]
    fn the_names_of_outcomes_and_reasons_stay_as_they_are() {
        let outcomes = [Outcome::Ok, Outcome::Fail, Outcome::Cancelled, Outcome::Error];
        assert_eq!(outcomes.map(Outcome::as_str), ["ok", "fail", "cancelled", "error"]);
        let reasons = [
            (Reason::Locked, "locked"),
            (Reason::Expired, "expired"),
            (Reason::NotFound, "not-found"),
            (Reason::NotHeld, "not-held"),
            (Reason::MaxHold, "max-hold"),
            (Reason::Cancelled, "cancelled"),
            (Reason::Error(ErrorKind::NetworkTimeout), "NetworkTimeout"),
        ];
        for (reason, name) in reasons {
            assert_eq!(reason.to_string(), name);
        }
    }
}
