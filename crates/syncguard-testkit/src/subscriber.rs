//! Subscribers of one thread.

use std::sync::OnceLock;

use tracing::{
    Dispatch, Event, Metadata, Subscriber,
    level_filters::LevelFilter,
    span,
    subscriber::{DefaultGuard, Interest, set_default},
};

/// Makes a subscriber the one of this thread until the guard is dropped.
///
/// `tracing` remembers for the whole process whether any subscriber wants a span or an event. With a
/// single subscriber it asks the one of the thread that comes by first. If that thread has none, the
/// answer is no, and the thread that does listen misses the span for good. So there are always two:
/// then all of them are asked.
pub(crate) fn listen(subscriber: impl Subscriber + Send + Sync) -> DefaultGuard {
    static SECOND: OnceLock<Dispatch> = OnceLock::new();
    let _ = SECOND.get_or_init(|| Dispatch::new(Deaf));
    set_default(subscriber)
}

/// Wants nothing.
struct Deaf;

impl Subscriber for Deaf {
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

    use crate::{log_capture::Heard, traced::Trace};

    fn come_by() {
        tracing::info_span!("place").in_scope(|| tracing::info!("someone came by"));
    }

    #[test]
    fn what_another_thread_came_by_first_is_traced_all_the_same() {
        let (trace, _tracing) = Trace::begin();
        thread::spawn(come_by).join().unwrap();
        assert_eq!(trace.spans().len(), 0, "that thread does not listen");
        come_by();
        assert_eq!((trace.spans_of("place").len(), trace.events().len()), (1, 1));
    }

    #[test]
    fn what_another_thread_came_by_first_is_heard_all_the_same() {
        let (heard, _hearing) = Heard::listen("someone went by");
        let go_by = || tracing::info!("someone went by");
        thread::spawn(go_by).join().unwrap();
        go_by();
        assert_eq!(heard.count(), 1);
    }
}
