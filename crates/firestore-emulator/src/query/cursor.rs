use std::cmp::Ordering;

use gcloud_sdk::google::firestore::v1::{Cursor as Message, Document, Value};
use tonic::Status;

use super::order::Sorting;
use crate::{
    name::DocumentName,
    value::{compare, reference},
};

/// A position in the results: the values of the sort fields, or of the first of them.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    values: Vec<Value>,
    /// Whether the position is before or after a document that has exactly these values.
    pub(super) before: bool,
}

impl Cursor {
    /// Returns the position after a document, if results are sorted by name.
    pub(crate) fn after_document(name: &DocumentName) -> Self {
        Self { values: vec![reference(name.as_str())], before: false }
    }

    pub(super) fn parse(message: Message, sorting: &Sorting) -> Result<Self, Status> {
        if message.values.len() > sorting.fields().len() {
            return Err(Status::invalid_argument("a cursor has more values than are sorted by"));
        }
        Ok(Self { values: message.values, before: message.before })
    }

    /// Returns where a document lies relative to this position.
    pub(super) fn compare(&self, document: &Document, sorting: &Sorting) -> Ordering {
        let places = sorting.fields().zip(&self.values).enumerate();
        let orderings = places.map(|(at, (path, value))| match path.read_in(document) {
            Some(stored) => sorting.apply_direction(at, compare(&stored, value)),
            None => Ordering::Less,
        });
        orderings.fold(Ordering::Equal, Ordering::then)
    }
}
