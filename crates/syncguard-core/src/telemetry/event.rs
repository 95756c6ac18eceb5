use std::{fmt, time::Duration};

use crate::{DisplayHash, ErrorKind, Fence, LockId, LockKey, Loss, Operation};

/// Describes one operation of a backend that has ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// The operation.
    pub operation: Operation,
    /// How it ended.
    pub outcome: Outcome,
    /// The reason, unless the outcome is [`Ok`](Outcome::Ok).
    pub reason: Option<Reason>,
    /// The hash of the key, if the operation concerns a known key.
    pub key_hash: Option<DisplayHash>,
    /// The hash of the lock id, if the operation concerns a known id.
    pub lock_id_hash: Option<DisplayHash>,
    /// The fence of the grant that was made or found.
    pub fence: Option<Fence>,
    /// How long the operation took; if it was cancelled, the time until it was dropped.
    pub duration: Duration,
    /// The key itself, only [on request](crate::telemetry::ObservedBuilder::reveal).
    pub key: Option<LockKey>,
    /// The lock id itself, only [on request](crate::telemetry::ObservedBuilder::reveal). Anyone who
    /// knows it can release the lock.
    pub lock_id: Option<LockId>,
    /// How many events were lost because the observer was too slow, counted since the previous
    /// event that it received. The lost events may also have occurred after this one.
    pub missed: u64,
}

/// Classifies how an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The operation succeeded.
    Ok,
    /// The request was denied: another holder has the lock, or the id holds no lock.
    Fail,
    /// The caller dropped the operation. It may have been carried out nevertheless.
    Cancelled,
    /// The operation returned an error, or the store did not reply.
    Error,
}

impl Outcome {
    /// Returns its name in spans and metrics. The name is stable.
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

/// Explains why an operation did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Another holder has the lock.
    Locked,
    /// The grant has expired.
    Expired,
    /// Nothing is on record under the key or the id.
    NotFound,
    /// The id holds no lock: one of the two above, or the lock was released by force.
    NotHeld,
    /// The lock was held for as long as `max_hold` allows.
    MaxHold,
    /// The scope of the lock was cancelled.
    Cancelled,
    /// An error of this kind.
    Error(ErrorKind),
}

impl Reason {
    /// Returns its name in spans and metrics; for an error, the name of its kind. The name is
    /// stable.
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

    /// Dashboards and alerts depend on these names.
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
