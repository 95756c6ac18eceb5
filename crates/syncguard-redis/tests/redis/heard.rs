//! What is told through `tracing`.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::{DefaultGuard, set_default},
};

/// Counts the events of this thread that have a certain field.
#[derive(Clone)]
pub(crate) struct Heard {
    field: &'static str,
    count: Arc<AtomicUsize>,
}

impl Heard {
    /// Listens until the guard is dropped.
    pub(crate) fn listen(field: &'static str) -> (Self, DefaultGuard) {
        let heard = Self { field, count: Arc::default() };
        (heard.clone(), set_default(heard))
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl Subscriber for Heard {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

impl Visit for Heard {
    fn record_debug(&mut self, field: &Field, _: &dyn std::fmt::Debug) {
        if field.name() == self.field {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }
}
