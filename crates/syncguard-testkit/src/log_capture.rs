//! Counts events of `tracing`.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::DefaultGuard,
};

use crate::subscriber;

/// Counts the events of this thread that contain a text, as the name of a field or in the message.
#[derive(Clone, Debug)]
pub struct EventCounter {
    text: &'static str,
    count: Arc<AtomicUsize>,
}

impl EventCounter {
    /// Counts until the guard is dropped.
    #[must_use]
    pub fn install(text: &'static str) -> (Self, DefaultGuard) {
        let counter = Self { text, count: Arc::default() };
        (counter.clone(), subscriber::install(counter))
    }

    /// Returns the number of events so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl Subscriber for EventCounter {
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

impl Visit for EventCounter {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let in_message = || field.name() == "message" && format!("{value:?}").contains(self.text);
        if field.name() == self.text || in_message() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }
}
