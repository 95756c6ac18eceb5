//! Stands in for `meter.rs` without the feature `metrics`: nothing is measured, at no cost.

use std::sync::Arc;

use super::{Outcome, Reason};
use crate::{Clock, Operation, backend::Mode};

pub(crate) struct Stopwatch;

impl Stopwatch {
    pub(crate) fn start(_: &Arc<dyn Clock>) -> Self {
        Self
    }
}

pub(super) fn acquired(_: &Stopwatch, _: Mode, _: Outcome) {}

pub(super) fn contended() {}

pub(super) fn held(_: &Stopwatch, _: Option<Reason>) {}

pub(super) fn renewed(_: Outcome) {}

pub(super) fn cleaned_up(_: Operation, _: Outcome) {}
