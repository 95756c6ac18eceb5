#![doc = include_str!("../../TELEMETRY.md")]

mod delivery;
mod event;
#[cfg_attr(not(feature = "metrics"), path = "meter_off.rs")]
mod meter;
mod observed;
mod ongoing;
mod verdict;

pub use event::{Event, Outcome, Reason};
#[cfg(feature = "metrics")]
pub use meter::describe_metrics;
pub use observed::{Observed, ObservedBuilder};

pub(crate) use meter::Stopwatch;
pub(crate) use ongoing::{
    Ongoing, acquiring, cleaning_up, ended, extending, release_failed, releasing, renewing,
    requesting, running,
};
pub(crate) use verdict::{Done, Judged, Verdict};
