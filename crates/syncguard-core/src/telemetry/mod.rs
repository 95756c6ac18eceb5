#![doc = include_str!("../../TELEMETRY.md")]

mod classification;
mod delivery;
mod event;
#[cfg_attr(not(feature = "metrics"), path = "meter_off.rs")]
mod meter;
mod observed;
mod operation_span;

pub use event::{Event, Outcome, Reason};
#[cfg(feature = "metrics")]
pub use meter::describe_metrics;
pub use observed::{Observed, ObservedBuilder};

pub(crate) use classification::{Classification, Classify, WorkOutput};
pub(crate) use meter::Stopwatch;
pub(crate) use operation_span::{
    OperationSpan, acquiring, cleaning_up, ended, extending, release_failed, releasing, renewing,
    requesting, running,
};
