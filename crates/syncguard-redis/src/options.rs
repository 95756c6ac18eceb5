//! The options of the operations.

use std::time::Duration;

use syncguard_core::Ttl;

/// The options of the operations.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) grace: Duration,
    pub(crate) replicas: Option<Replicas>,
    pub(crate) counters: Counters,
}

impl Options {
    /// Returns how long a record is stored, in milliseconds. This implements the grace.
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

/// Where a new counter starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counters {
    FromOne,
    FromServerTime,
}

impl Counters {
    /// Returns the option as the scripts expect it.
    pub(crate) fn seed(self) -> &'static str {
        match self {
            Self::FromOne => "",
            Self::FromServerTime => "seed",
        }
    }
}
