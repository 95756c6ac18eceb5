//! The options of the operations.

use std::time::Duration;

use syncguard_core::{Ttl, backend::Counters};

/// The options of the operations.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) grace: Duration,
    pub(crate) replicas: Option<Replicas>,
    pub(crate) counters: Counters,
    /// How long the server keeps a seeded counter that is not used. `None` for ever.
    pub(crate) counter_lifetime: Option<Duration>,
}

impl Options {
    /// Returns how long a record is stored, in milliseconds. This implements the grace.
    pub(crate) fn lifetime(&self, ttl: Ttl) -> String {
        (ttl.as_duration() + self.grace).as_millis().to_string()
    }

    /// Returns for how many milliseconds a seeded counter is kept beyond its value, 0 for ever.
    /// `None` if counters are not seeded.
    pub(crate) fn seeded_counter_lifetime(&self) -> Option<String> {
        // The server counts the lifetime from the beginning of the script, a moment before the time
        // that the script reads.
        let lifetime = self.counter_lifetime.map(|lifetime| lifetime + Duration::from_secs(1));
        let millis = lifetime.unwrap_or_default().as_millis();
        (self.counters == Counters::Seeded).then(|| millis.to_string())
    }
}

/// How many replicas must have a write before it counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replicas {
    pub(crate) count: u32,
    pub(crate) timeout: Duration,
}
