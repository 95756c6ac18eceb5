//! The lock API, which is written once, above every backend.

mod acquisition;
mod alarm;
mod attempt;
mod builder;
mod claim;
mod cleanup;
mod fairness;
mod guard;
mod lease;
mod lease_state;
mod manager;
mod manager_builder;
mod options;
mod queue;
mod release;
mod renewal;
mod retry;
mod run;
mod runtime;
mod scope;
mod shared;
mod store_clock;
mod timer;
mod validity;
mod waiters;

pub use builder::LockBuilder;
pub use claim::{Claim, OnceOutcome, ThrottleOutcome};
pub use guard::{LockGuard, TryAcquireOutcome};
pub use lease::Lease;
pub use manager::{LockManager, ShutdownOutcome};
pub use manager_builder::LockManagerBuilder;
pub use renewal::Renew;
pub(crate) use retry::Schedule;
pub use retry::{Growth, Jitter, Retry};
pub use run::RunOutcome;
pub use validity::Loss;
