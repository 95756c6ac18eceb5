use std::fmt;

use serde::{Deserialize, Serialize};
use syncguard_core::{BootInstant, Fence, LockKey, backend::Mode};

/// The number of a process in a test. A process that replaces a dead one has its own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u32);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.0)
    }
}

/// How a process acquires locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Client {
    /// It waits for locks, in line where the store has one.
    Waiting,
    /// It only tries, again and again. It is never in line, and no release wakes it.
    Polling,
    /// It tries again and again, as the TypeScript client does.
    TypeScript,
    /// It enters without acquiring a lock, under fences of its own that increase. This proves that
    /// the checks detect the violation.
    Unlocked,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "clients that wait",
            Self::Polling => "clients that only try",
            Self::TypeScript => "TypeScript-like clients",
            Self::Unlocked => "clients that do not lock",
        })
    }
}

/// One line of a [`Journal`](super::Journal).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The process that the event is about.
    pub process: Incarnation,
    /// The time of the event, by the clock of the host.
    #[serde(with = "since_boot")]
    pub at: BootInstant,
    /// The event.
    pub event: Event,
}

/// An event that a process records, or that is recorded about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The process begins to wait for a lock.
    WaitBegan {
        /// The number of the wait in this process.
        wait: u64,
        /// How the process acquires the lock.
        client: Client,
        /// The key of the lock.
        key: LockKey,
    },
    /// The process has ceased to wait: it was granted the lock, or gave up.
    WaitEnded {
        /// The number of the wait in this process.
        wait: u64,
    },
    /// The process holds the lock: it read the clock, and then checked that it still held the lock.
    Entered {
        /// The key of the lock.
        key: LockKey,
        /// The fence of the grant.
        fence: Fence,
        /// The mode of the grant.
        mode: Mode,
        /// When the process began to wait for the lock.
        #[serde(with = "since_boot")]
        requested: BootInstant,
        /// Until when the process may rely on the lock without checking it again.
        #[serde(with = "since_boot")]
        until: BootInstant,
    },
    /// The process is about to release the lock. The time is the last one at which it knew that it
    /// still held it.
    Left {
        /// The key of the lock.
        key: LockKey,
        /// The fence of the grant.
        fence: Fence,
    },
    /// The store has confirmed that the process released the lock.
    Released {
        /// The key of the lock.
        key: LockKey,
        /// The fence of the grant.
        fence: Fence,
    },
    /// The store answered an extend or a release of the process that it does not hold the lock. The
    /// process received the answer while its lease was valid, that is, before the grant could expire.
    NotHeld {
        /// The key of the lock.
        key: LockKey,
        /// The fence of the grant.
        fence: Fence,
    },
    /// The process is stopped. Recorded by the process that stopped it.
    Stopped,
    /// The process is dead. Recorded by the process that killed it, once its death was certain.
    Died,
}

/// Serializes an instant as the time since boot.
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
