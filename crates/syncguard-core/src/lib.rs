#![doc = include_str!("../README.md")]

mod clock;
mod error;
mod lock;
mod value;

pub mod address;
pub mod backend;
pub mod pool;
pub mod telemetry;
pub mod text;

#[cfg(feature = "contract")]
pub mod contract;

#[doc = include_str!("../ARCHITECTURE.md")]
pub mod architecture {}

pub use backend::{DynBackend, Holder, LockInfo, NullBackend, ReleaseOutcome, UnsafeSettings};
pub use clock::{BootClock, BootInstant, Clock, ManualClock};
pub use error::{Error, ErrorKind, Operation};
pub use lock::{
    Claim, Growth, Jitter, KeyStats, LeaderBuilder, Lease, LockAllBuilder, LockAllGuard,
    LockAllLease, LockBuilder, LockGuard, LockManager, LockManagerBuilder, LockStats, LockWatch,
    Loss, OnceOutcome, Renew, Retry, RunOutcome, ShutdownOutcome, Term, ThrottleOutcome,
    TryAcquireAllOutcome, TryAcquireOutcome,
};
pub use value::{
    DisplayHash, DurationExt, Fence, InvalidValue, LockId, LockKey, Owner, Timestamp, Ttl,
};
