//! The spans, events and metrics that the lock layer reports.
//!
//! Without a subscriber a span costs one atomic load: no field is computed unless `tracing` reports
//! that a subscriber is interested.

use std::{future::Future, sync::Arc};

use tracing::{
    Instrument, Span, debug_span,
    field::{Empty, display},
    instrument::Instrumented,
    trace_span,
};

use super::{
    Outcome, Reason,
    classification::{Classification, Classify},
    meter::{self, Stopwatch},
};
use crate::{Clock, Error, Fence, LockId, LockKey, Loss, Operation, backend::Mode};

/// The span of an operation of the lock layer that is in progress, and its metric. If it is dropped
/// before its end, the operation was cancelled.
pub(crate) struct OperationSpan {
    span: Span,
    metric: Metric,
    open: bool,
}

/// The metric that an operation contributes to.
enum Metric {
    None,
    Acquire(Stopwatch, Mode),
    CleanUp(Operation),
    Renewal,
    Request(Operation),
}

impl OperationSpan {
    fn new(span: Span, metric: Metric) -> Self {
        Self { span, metric, open: true }
    }

    /// Instruments work of the operation with its span, in which it is polled.
    ///
    /// The caller awaits the returned future. An async function in its place would wrap one future
    /// in another, and the inner one would be copied. For the same reason the caller passes large
    /// work pinned. Pinned work is dropped outside the span, which matters only to work that starts
    /// something in its drop.
    pub(crate) fn within<F: Future>(&self, work: F) -> Instrumented<F> {
        work.instrument(self.span.clone())
    }

    /// Ends the operation with its result.
    pub(crate) fn end<T: Classify>(mut self, result: T) -> T {
        self.close(result.classify());
        result
    }

    fn close(&mut self, classification: Classification) {
        self.open = false;
        self.metric.record(classification.outcome);
        if !self.span.is_disabled() {
            record(&self.span, classification);
        }
    }
}

impl Drop for OperationSpan {
    fn drop(&mut self) {
        if self.open {
            self.close(Classification::CANCELLED);
        }
    }
}

impl Metric {
    fn record(&self, outcome: Outcome) {
        match self {
            Self::Acquire(wait, mode) => meter::acquired(wait, *mode, outcome),
            Self::CleanUp(operation) => meter::cleaned_up(*operation, outcome),
            Self::Renewal => meter::renewed(outcome),
            Self::Request(Operation::Acquire) if outcome == Outcome::Fail => meter::contended(),
            Self::Request(_) | Self::None => {}
        }
    }
}

fn record(span: &Span, classification: Classification) {
    span.record("syncguard.outcome", classification.outcome.as_str());
    if let Some(reason) = classification.reason {
        span.record("syncguard.reason", reason.as_str());
    }
    if let Some(Reason::Error(kind)) = classification.reason {
        span.record("error.type", kind.as_str());
        span.record("otel.status_code", "ERROR");
    }
    if let Some(fence) = classification.fence {
        span.record("syncguard.fence", display(fence));
    }
    if let Some(lock_id) = classification.lock_id {
        span.record("syncguard.lock_id.hash", display(lock_id));
    }
}

pub(crate) fn acquiring(
    clock: &Arc<dyn Clock>,
    key: Option<&LockKey>,
    mode: Mode,
) -> OperationSpan {
    let span = debug_span!(
        target: "syncguard",
        "acquire",
        syncguard.key.hash = key.map(display),
        syncguard.mode = mode.as_str(),
        syncguard.fence = Empty,
        syncguard.lock_id.hash = Empty,
        syncguard.outcome = Empty,
        syncguard.reason = Empty,
        "error.type" = Empty,
        otel.status_code = Empty,
    );
    OperationSpan::new(span, Metric::Acquire(Stopwatch::start(clock), mode))
}

pub(crate) fn running(key: Option<&LockKey>) -> OperationSpan {
    let span = debug_span!(
        target: "syncguard",
        "run",
        syncguard.key.hash = key.map(display),
        syncguard.outcome = Empty,
        syncguard.reason = Empty,
        "error.type" = Empty,
        otel.status_code = Empty,
    );
    OperationSpan::new(span, Metric::None)
}

pub(crate) fn extending(key: &LockKey, lock_id: LockId, fence: Fence) -> OperationSpan {
    let span = debug_span!(
        target: "syncguard",
        "extend",
        syncguard.key.hash = %key,
        syncguard.lock_id.hash = %lock_id,
        syncguard.fence = %fence,
        syncguard.outcome = Empty,
        syncguard.reason = Empty,
        "error.type" = Empty,
        otel.status_code = Empty,
    );
    OperationSpan::new(span, Metric::None)
}

pub(crate) fn renewing(key: &LockKey, lock_id: LockId, fence: Fence) -> OperationSpan {
    let span = debug_span!(
        target: "syncguard",
        "renew",
        syncguard.key.hash = %key,
        syncguard.lock_id.hash = %lock_id,
        syncguard.fence = %fence,
        syncguard.outcome = Empty,
        syncguard.reason = Empty,
        "error.type" = Empty,
        otel.status_code = Empty,
    );
    OperationSpan::new(span, Metric::Renewal)
}

pub(crate) fn releasing(key: &LockKey, lock_id: LockId, fence: Fence) -> OperationSpan {
    let span = debug_span!(
        target: "syncguard",
        "release",
        syncguard.key.hash = %key,
        syncguard.lock_id.hash = %lock_id,
        syncguard.fence = %fence,
        syncguard.outcome = Empty,
        syncguard.reason = Empty,
        "error.type" = Empty,
        otel.status_code = Empty,
    );
    OperationSpan::new(span, Metric::None)
}

/// Starts the span of a background operation. It follows from the current span and is not its
/// child, because the current span would otherwise last until the operation is done.
pub(crate) fn cleaning_up(key: &LockKey, lock_id: LockId, operation: Operation) -> OperationSpan {
    let span = debug_span!(
        target: "syncguard",
        parent: None,
        "clean_up",
        syncguard.operation = operation.as_str(),
        syncguard.key.hash = %key,
        syncguard.lock_id.hash = %lock_id,
        syncguard.outcome = Empty,
        syncguard.reason = Empty,
        "error.type" = Empty,
        otel.status_code = Empty,
    );
    if !span.is_disabled() {
        span.follows_from(Span::current());
    }
    OperationSpan::new(span, Metric::CleanUp(operation))
}

/// Starts the span of one request to the store.
pub(crate) fn requesting(operation: Operation) -> OperationSpan {
    let span = trace_span!(
        target: "syncguard",
        "request",
        otel.kind = "client",
        syncguard.operation = operation.as_str(),
        syncguard.fence = Empty,
        syncguard.outcome = Empty,
        syncguard.reason = Empty,
        "error.type" = Empty,
        otel.status_code = Empty,
    );
    OperationSpan::new(span, Metric::Request(operation))
}

/// Reports the end of a lease; called once per lease.
pub(crate) fn ended(
    key: &LockKey,
    lock_id: LockId,
    fence: Fence,
    held: &Stopwatch,
    loss: Option<Loss>,
) {
    let reason = loss.map(Reason::from);
    meter::held(held, reason);
    if let Some(reason) = reason {
        tracing::warn!(
            target: "syncguard",
            {
                syncguard.key.hash = %key,
                syncguard.lock_id.hash = %lock_id,
                syncguard.fence = %fence,
                syncguard.reason = reason.as_str(),
            },
            "lock lost"
        );
    }
}

/// Reports that a grant is left to its ttl.
pub(crate) fn release_failed(error: &Error) {
    tracing::warn!(
        target: "syncguard",
        {
            syncguard.key.hash = error.key().map(display),
            syncguard.lock_id.hash = error.lock_id().map(display),
            "error.type" = error.kind().as_str(),
            %error,
        },
        "a lock could not be released; its ttl will end it"
    );
}
