use std::time::Duration;

/// What the operations go by.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) grace: Duration,
    pub(crate) replicas: Option<Replicas>,
    pub(crate) counters: Counters,
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
