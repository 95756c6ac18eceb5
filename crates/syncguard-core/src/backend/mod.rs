//! The interface of a store, with its requests and outcomes.

mod capabilities;
mod counters;
mod detached;
mod erased;
mod finding;
mod line;
mod lock_backend;
mod mode;
mod null;
mod outcome;
mod record;
mod request;
mod shared;
mod subscriptions;

pub use capabilities::{Capabilities, ClockAuthority, Fencing, WakeUp};
pub use counters::{Counters, RetirePage, RetireRequest};
pub use detached::Detached;
pub use erased::DynBackend;
pub use finding::{Finding, Severity, UnsafeSettings};
pub use line::{Entry, Notified, Standings, Substitute, Turn};
pub use lock_backend::LockBackend;
pub use mode::Mode;
pub use null::NullBackend;
pub use outcome::{AcquireOutcome, ExtendOutcome, Grant, Holder, NotHeld, ReleaseOutcome};
pub use record::{HolderInfo, LockInfo, LockPage, LockRecord, PageToken, SharedHolder};
pub use request::{AcquireRequest, ListRequest, LockQuery, LockRef};
pub use shared::{Admission, Announcement, SharedHolders, permits_differ};
pub use subscriptions::{LINGER, SubscribedKey, Subscription, Subscriptions};

pub use crate::{error::Effect, value::KeyLayout};
