//! Where the lock layer tells what it does: the spans, the events and the metrics of it.
//!
//! Without a subscriber a span costs a look at one number: no field is computed before `tracing`
//! has said that somebody listens.

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

/// An operation of the lock layer that goes on. Dropped before its end, it was cancelled.
pub(crate) struct Ongoing {
    span: Span,
    counted: Counted,
    open: bool,
}

/// What is counted of an operation.
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

    /// Puts work of the operation into its span, in which it is polled.
    ///
    /// The caller awaits it. An async function around it would be a future around a future, which
    /// is copied when it is made; for the same reason large work is given pinned. It is then dropped
    /// after it has left the span, which only work that begins something by its drop would notice.
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

/// Begins what goes on in the background. It is no child of the span in which it begins, which
/// would otherwise last until it is done, but follows from it.
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

/// Tells that a lease is over; once for each.
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

/// Tells that a grant is left to its ttl.
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
