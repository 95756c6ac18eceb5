use std::fmt;

use serde::{Deserialize, Serialize};
use syncguard_core::{BootInstant, Fence, LockKey};

/// Numbers the processes of one test, those that take the place of a dead one as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u32);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.0)
    }
}

/// One line of a [`Journal`](super::Journal).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// To whom it happened.
    pub process: Incarnation,
    /// When, by the clock of the host.
    #[serde(with = "since_boot")]
    pub at: BootInstant,
    /// What.
    pub event: Event,
}

/// What a process has to record, and what is recorded of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// It has the lock: it asked for the time, and then whether it still had the lock.
    Entered {
        /// Which lock.
        key: LockKey,
        /// Under which fence.
        fence: Fence,
        /// How long it may count on that without looking again.
        #[serde(with = "since_boot")]
        until: BootInstant,
    },
    /// It is about to give the lock back. The time is the last one at which it knew that it still
    /// had it.
    Left {
        /// Which lock.
        key: LockKey,
        /// Under which fence.
        fence: Fence,
    },
    /// It is dead; recorded by whoever killed it, once that was certain.
    Died,
}

/// Writes points in time as the time since the host was started.
mod since_boot {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use syncguard_core::BootInstant;

    pub(super) fn serialize<S: Serializer>(
        at: &BootInstant,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        at.since_boot().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BootInstant, D::Error> {
        Duration::deserialize(deserializer).map(BootInstant::from_boot)
    }
}
