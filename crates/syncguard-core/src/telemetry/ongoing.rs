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
    meter::{self, Stopwatch},
    verdict::{Judged, Verdict},
};
use crate::{Clock, Error, Fence, LockId, LockKey, Loss, Mode, Operation};

/// An operation of the lock layer in progress. If dropped before its end, it was cancelled.
pub(crate) struct Ongoing {
    span: Span,
    counted: Counted,
    open: bool,
}

/// The metric that counts an operation.
enum Counted {
    Nothing,
    Acquire(Stopwatch, Mode),
    CleanUp(Operation),
    Renewal,
    Request(Operation),
}

impl Ongoing {
    fn new(span: Span, counted: Counted) -> Self {
        Self { span, counted, open: true }
    }

    /// Instruments work of the operation with its span, in which it is polled.
    ///
    /// The caller awaits it. An async function around it would wrap one future in another, which is
    /// copied when it is created; for the same reason large work is passed pinned. Such work is
    /// dropped after it has left the span, which only matters to work that starts something in its
    /// drop.
    pub(crate) fn within<F: Future>(&self, work: F) -> Instrumented<F> {
        work.instrument(self.span.clone())
    }

    /// Ends the operation with its result.
    pub(crate) fn end<T: Judged>(mut self, result: T) -> T {
        self.close(result.verdict());
        result
    }

    fn close(&mut self, verdict: Verdict) {
        self.open = false;
        self.counted.count(verdict.outcome);
        if !self.span.is_disabled() {
            record(&self.span, verdict);
        }
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        if self.open {
            self.close(Verdict::CANCELLED);
        }
    }
}

impl Counted {
    fn count(&self, outcome: Outcome) {
        match self {
            Self::Acquire(waited, mode) => meter::acquired(waited, *mode, outcome),
            Self::CleanUp(operation) => meter::cleaned_up(*operation, outcome),
            Self::Renewal => meter::renewed(outcome),
            Self::Request(Operation::Acquire) if outcome == Outcome::Fail => meter::contended(),
            Self::Request(_) | Self::Nothing => {}
        }
    }
}

fn record(span: &Span, verdict: Verdict) {
    span.record("syncguard.outcome", verdict.outcome.as_str());
    if let Some(reason) = verdict.reason {
        span.record("syncguard.reason", reason.as_str());
    }
    if let Some(Reason::Error(kind)) = verdict.reason {
        span.record("error.type", kind.as_str());
        span.record("otel.status_code", "ERROR");
    }
    if let Some(fence) = verdict.fence {
        span.record("syncguard.fence", display(fence));
    }
    if let Some(lock_id) = verdict.lock_id {
        span.record("syncguard.lock_id.hash", display(lock_id));
    }
}

pub(crate) fn acquiring(clock: &Arc<dyn Clock>, key: Option<&LockKey>, mode: Mode) -> Ongoing {
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
    Ongoing::new(span, Counted::Acquire(Stopwatch::start(clock), mode))
}

pub(crate) fn running(key: Option<&LockKey>) -> Ongoing {
    let span = debug_span!(
        target: "syncguard",
        "run",
        syncguard.key.hash = key.map(display),
        syncguard.outcome = Empty,
        syncguard.reason = Empty,
        "error.type" = Empty,
        otel.status_code = Empty,
    );
    Ongoing::new(span, Counted::Nothing)
}

pub(crate) fn extending(key: &LockKey, lock_id: LockId, fence: Fence) -> Ongoing {
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
    Ongoing::new(span, Counted::Nothing)
}

pub(crate) fn renewing(key: &LockKey, lock_id: LockId, fence: Fence) -> Ongoing {
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
    Ongoing::new(span, Counted::Renewal)
}

pub(crate) fn releasing(key: &LockKey, lock_id: LockId, fence: Fence) -> Ongoing {
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
    Ongoing::new(span, Counted::Nothing)
}

/// Begins a background operation. It is not a child of the current span, which would otherwise last
/// until the operation is done, but follows from it.
pub(crate) fn cleaning_up(key: &LockKey, lock_id: LockId, operation: Operation) -> Ongoing {
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
    Ongoing::new(span, Counted::CleanUp(operation))
}

/// Begins one request to the store.
pub(crate) fn requesting(operation: Operation) -> Ongoing {
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
    Ongoing::new(span, Counted::Request(operation))
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
