//! The metrics of the lock layer.

use std::sync::Arc;

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};

use super::{Outcome, Reason};
use crate::{BootInstant, Clock, Operation, backend::Mode};

const ACQUIRE_WAIT: &str = "syncguard_acquire_wait_seconds";
const ACQUISITIONS: &str = "syncguard_acquisitions_total";
const CONTENTION: &str = "syncguard_contention_total";
const HOLD: &str = "syncguard_hold_seconds";
const LOSSES: &str = "syncguard_losses_total";
const RENEWALS: &str = "syncguard_renewals_total";
const CLEAN_UPS: &str = "syncguard_clean_ups_total";

/// Registers the description and the unit of each metric, for exporters that show them.
///
/// Call it once, when the recorder of the crate `metrics` is installed. The metrics work without
/// it.
pub fn describe_metrics() {
    let seconds = |name, text| describe_histogram!(name, Unit::Seconds, text);
    let count = |name, text| describe_counter!(name, Unit::Count, text);
    seconds(ACQUIRE_WAIT, "Time from a call that requests a lock until it returns.");
    seconds(HOLD, "Time for which a lock was held.");
    count(ACQUISITIONS, "Calls that requested a lock.");
    count(CONTENTION, "Requests that found the lock held by another holder.");
    count(LOSSES, "Locks that were lost while they were held.");
    count(RENEWALS, "Renewals of held locks.");
    count(CLEAN_UPS, "Grants that were released or abandoned in the background.");
}

/// Measures time by the clock of the locks.
pub(crate) struct Stopwatch {
    clock: Arc<dyn Clock>,
    start: BootInstant,
}

impl Stopwatch {
    pub(crate) fn start(clock: &Arc<dyn Clock>) -> Self {
        Self { clock: clock.clone(), start: clock.now() }
    }

    fn seconds(&self) -> f64 {
        self.clock.now().since(self.start).as_secs_f64()
    }
}

pub(super) fn acquired(wait: &Stopwatch, mode: Mode, outcome: Outcome) {
    let (mode, outcome) = (mode.as_str(), outcome.as_str());
    histogram!(ACQUIRE_WAIT, "mode" => mode, "outcome" => outcome).record(wait.seconds());
    counter!(ACQUISITIONS, "mode" => mode, "outcome" => outcome).increment(1);
}

pub(super) fn contended() {
    counter!(CONTENTION).increment(1);
}

pub(super) fn held(hold: &Stopwatch, loss: Option<Reason>) {
    let end = if loss.is_some() { "lost" } else { "released" };
    histogram!(HOLD, "end" => end).record(hold.seconds());
    if let Some(reason) = loss {
        counter!(LOSSES, "reason" => reason.as_str()).increment(1);
    }
}

pub(super) fn renewed(outcome: Outcome) {
    counter!(RENEWALS, "outcome" => outcome.as_str()).increment(1);
}

pub(super) fn cleaned_up(operation: Operation, outcome: Outcome) {
    let labels = [("operation", operation.as_str()), ("outcome", outcome.as_str())];
    counter!(CLEAN_UPS, &labels).increment(1);
}
