//! What the operations go by.

use std::time::Duration;

use syncguard_core::Ttl;

/// What the operations go by.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) grace: Duration,
    pub(crate) replicas: Option<Replicas>,
    pub(crate) counters: Counters,
}

impl Options {
    /// Says for how long a record is stored, in milliseconds: that is what makes the grace real.
    pub(crate) fn lifetime(&self, ttl: Ttl) -> String {
        (ttl.as_duration() + self.grace).as_millis().to_string()
    }
}

/// How many replicas must have a write before it counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replicas {
    pub(crate) count: u32,
    pub(crate) timeout: Duration,
}

/// Where a counter starts that is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counters {
    FromOne,
    FromServerTime,
}
