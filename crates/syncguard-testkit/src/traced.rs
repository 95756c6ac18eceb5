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

use crate::subscriber::listen;

/// Keeps what is traced on this thread.
#[derive(Clone, Debug, Default)]
pub struct Trace(Arc<Mutex<Notes>>);

#[derive(Debug, Default)]
struct Notes {
    spans: Vec<Traced>,
    events: Vec<Traced>,
    entered: Vec<usize>,
}

/// A span or an event.
#[derive(Clone, Debug)]
pub struct Traced {
    metadata: &'static Metadata<'static>,
    /// The values of its fields that have one, as text.
    pub fields: BTreeMap<&'static str, String>,
    /// The name of the span that it is within.
    pub parent: Option<&'static str>,
    /// The names of the spans that it follows from.
    pub follows: Vec<&'static str>,
}

impl Trace {
    /// Keeps what is traced until the guard is dropped.
    #[must_use]
    pub fn begin() -> (Self, DefaultGuard) {
        let trace = Self::default();
        (trace.clone(), listen(trace))
    }

    /// Returns the spans so far, in the order in which they began.
    #[must_use]
    pub fn spans(&self) -> Vec<Traced> {
        self.notes().spans.clone()
    }

    /// Returns the spans of this name.
    #[must_use]
    pub fn spans_of(&self, name: &str) -> Vec<Traced> {
        self.spans().into_iter().filter(|span| span.name() == name).collect()
    }

    /// Returns the events so far.
    #[must_use]
    pub fn events(&self) -> Vec<Traced> {
        self.notes().events.clone()
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
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

    /// Returns the names of all its fields, with a value or without.
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

impl Notes {
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
        let mut notes = self.notes();
        span.parent = notes.parent(attributes.parent(), attributes.is_contextual());
        notes.spans.push(span);
        id(notes.spans.len() - 1)
    }

    fn record(&self, span: &span::Id, values: &span::Record<'_>) {
        values.record(&mut self.notes().spans[index(span)]);
    }

    fn record_follows_from(&self, span: &span::Id, follows: &span::Id) {
        let mut notes = self.notes();
        let follows = notes.spans[index(follows)].name();
        notes.spans[index(span)].follows.push(follows);
    }

    fn event(&self, event: &Event<'_>) {
        let mut traced = Traced::new(event.metadata());
        event.record(&mut traced);
        let mut notes = self.notes();
        traced.parent = notes.parent(event.parent(), event.is_contextual());
        notes.events.push(traced);
    }

    fn enter(&self, span: &span::Id) {
        self.notes().entered.push(index(span));
    }

    fn exit(&self, span: &span::Id) {
        let mut notes = self.notes();
        if let Some(last) = notes.entered.iter().rposition(|entered| *entered == index(span)) {
            notes.entered.remove(last);
        }
    }

    fn current_span(&self) -> Current {
        let notes = self.notes();
        notes.entered.last().map_or_else(Current::none, |current| {
            Current::new(id(*current), notes.spans[*current].metadata)
        })
    }
}
