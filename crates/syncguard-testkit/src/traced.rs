//! Spans and events of `tracing` as a subscriber sees them.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::DefaultGuard,
};
use tracing_core::span::Current;

use crate::subscriber::install;

/// Records the spans and events of this thread.
#[derive(Clone, Debug, Default)]
pub struct Trace(Arc<Mutex<Recorded>>);

#[derive(Debug, Default)]
struct Recorded {
    spans: Vec<Traced>,
    events: Vec<Traced>,
    entered: Vec<usize>,
}

/// A span or an event.
#[derive(Clone, Debug)]
pub struct Traced {
    metadata: &'static Metadata<'static>,
    /// The fields that have a value, as text.
    pub fields: BTreeMap<&'static str, String>,
    /// The name of the parent span.
    pub parent: Option<&'static str>,
    /// The names of the spans that it follows from.
    pub follows: Vec<&'static str>,
}

impl Trace {
    /// Records until the guard is dropped.
    #[must_use]
    pub fn begin() -> (Self, DefaultGuard) {
        let trace = Self::default();
        (trace.clone(), install(trace))
    }

    /// Returns the spans so far, in the order in which they began.
    #[must_use]
    pub fn spans(&self) -> Vec<Traced> {
        self.recorded().spans.clone()
    }

    /// Returns the spans of this name.
    #[must_use]
    pub fn spans_of(&self, name: &str) -> Vec<Traced> {
        self.spans().into_iter().filter(|span| span.name() == name).collect()
    }

    /// Returns the events so far.
    #[must_use]
    pub fn events(&self) -> Vec<Traced> {
        self.recorded().events.clone()
    }

    fn recorded(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Traced {
    fn new(metadata: &'static Metadata<'static>) -> Self {
        let (fields, follows) = (BTreeMap::new(), Vec::new());
        Self { metadata, fields, parent: None, follows }
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.metadata.name()
    }

    /// Returns its target.
    #[must_use]
    pub fn target(&self) -> &'static str {
        self.metadata.target()
    }

    /// Returns its level.
    #[must_use]
    pub fn level(&self) -> Level {
        *self.metadata.level()
    }

    /// Returns the names of all its fields, with or without a value.
    #[must_use]
    pub fn declared(&self) -> Vec<&'static str> {
        self.metadata.fields().iter().map(|field| field.name()).collect()
    }

    /// Returns the value of a field, if it has one.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
}

impl Visit for Traced {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

fn id(index: usize) -> span::Id {
    span::Id::from_u64(index as u64 + 1)
}

fn index(id: &span::Id) -> usize {
    usize::try_from(id.into_u64()).unwrap_or(usize::MAX) - 1
}

impl Recorded {
    fn parent(&self, named: Option<&span::Id>, contextual: bool) -> Option<&'static str> {
        let entered = self.entered.last().copied().filter(|_| contextual);
        named.map(index).or(entered).map(|parent| self.spans[parent].name())
    }
}

impl Subscriber for Trace {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut span = Traced::new(attributes.metadata());
        attributes.record(&mut span);
        let mut recorded = self.recorded();
        span.parent = recorded.parent(attributes.parent(), attributes.is_contextual());
        recorded.spans.push(span);
        id(recorded.spans.len() - 1)
    }

    fn record(&self, span: &span::Id, values: &span::Record<'_>) {
        values.record(&mut self.recorded().spans[index(span)]);
    }

    fn record_follows_from(&self, span: &span::Id, follows: &span::Id) {
        let mut recorded = self.recorded();
        let follows = recorded.spans[index(follows)].name();
        recorded.spans[index(span)].follows.push(follows);
    }

    fn event(&self, event: &Event<'_>) {
        let mut traced = Traced::new(event.metadata());
        event.record(&mut traced);
        let mut recorded = self.recorded();
        traced.parent = recorded.parent(event.parent(), event.is_contextual());
        recorded.events.push(traced);
    }

    fn enter(&self, span: &span::Id) {
        self.recorded().entered.push(index(span));
    }

    fn exit(&self, span: &span::Id) {
        let mut recorded = self.recorded();
        if let Some(last) = recorded.entered.iter().rposition(|entered| *entered == index(span)) {
            recorded.entered.remove(last);
        }
    }

    fn current_span(&self) -> Current {
        let recorded = self.recorded();
        recorded.entered.last().map_or_else(Current::none, |current| {
            Current::new(id(*current), recorded.spans[*current].metadata)
        })
    }
}
