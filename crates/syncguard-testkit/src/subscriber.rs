//! Installs a subscriber for one thread.

use std::sync::OnceLock;

use tracing::{
    Dispatch, Event, Metadata, Subscriber,
    level_filters::LevelFilter,
    span,
    subscriber::{DefaultGuard, Interest, set_default},
};

/// Makes `subscriber` the default of this thread until the guard is dropped.
///
/// `tracing` caches for the whole process whether any subscriber is interested in a span or an
/// event. If there is a single subscriber, it asks the default of the thread that reaches the
/// callsite first. If that thread has no default, the callsite is disabled, and the thread that has
/// a subscriber never sees the span. Therefore there are always two subscribers: `tracing` then
/// asks all of them.
pub(crate) fn install(subscriber: impl Subscriber + Send + Sync) -> DefaultGuard {
    static SECOND: OnceLock<Dispatch> = OnceLock::new();
    let _ = SECOND.get_or_init(|| Dispatch::new(NoopSubscriber));
    set_default(subscriber)
}

/// A subscriber that is interested in nothing.
struct NoopSubscriber;

impl Subscriber for NoopSubscriber {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::never()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        false
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::OFF)
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[cfg(test)]
mod tests {
    use std::thread;

    use crate::{log_capture::EventCounter, traced::Trace};

    fn emit_span() {
        tracing::info_span!("place").in_scope(|| tracing::info!("someone came by"));
    }

    #[test]
    fn a_callsite_that_another_thread_reached_first_is_traced() {
        let (trace, _guard) = Trace::begin();
        thread::spawn(emit_span).join().unwrap();
        assert_eq!(trace.spans().len(), 0, "that thread does not listen");
        emit_span();
        assert_eq!((trace.spans_of("place").len(), trace.events().len()), (1, 1));
    }

    #[test]
    fn a_callsite_that_another_thread_reached_first_is_counted() {
        let (counter, _guard) = EventCounter::install("someone went by");
        let emit_event = || tracing::info!("someone went by");
        thread::spawn(emit_event).join().unwrap();
        emit_event();
        assert_eq!(counter.count(), 1);
    }
}
