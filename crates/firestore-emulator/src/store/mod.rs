//! The documents, with their earlier versions.

mod batch;
mod mutation;
mod transform;

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::Arc,
};

use gcloud_sdk::google::firestore::v1::Document;

pub(crate) use batch::Batch;
pub(crate) use mutation::Mutation;

use crate::{name::DocumentName, time::Time};

/// A document as it was from one commit to the next; `None` if it did not exist.
pub(crate) type Stored = Option<Arc<Document>>;

/// All documents of all databases.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    histories: BTreeMap<DocumentName, History>,
    /// The deletions, in order of time, so that they can be dropped eventually.
    deleted: VecDeque<(Time, DocumentName)>,
}

/// The versions of a document, oldest first.
#[derive(Debug, Default)]
struct History(VecDeque<(Time, Stored)>);

impl Documents {
    /// Reads a document as of a time.
    pub(crate) fn read(&self, name: &DocumentName, at: Time) -> Stored {
        self.histories.get(name).and_then(|history| history.at(at))
    }

    /// Returns whether a document was written, or deleted, after a time.
    pub(crate) fn is_changed_since(&self, name: &DocumentName, time: Time) -> bool {
        let last = self.histories.get(name).and_then(|history| history.0.back());
        last.is_some_and(|(written, _)| *written > time)
    }

    /// Reads the documents whose names begin with a prefix as of a time, at any depth.
    pub(crate) fn below<'a>(
        &'a self,
        prefix: &'a str,
        at: Time,
    ) -> impl Iterator<Item = (&'a DocumentName, Arc<Document>)> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let names = self.histories.range::<str, _>(from);
        names
            .take_while(move |(name, _)| name.as_str().starts_with(prefix))
            .filter_map(move |(name, history)| Some((name, history.at(at)?)))
    }

    /// Installs a batch, so that every later read finds it. Versions before `horizon` can no longer
    /// be requested, so those that no read can return are dropped.
    pub(crate) fn install(&mut self, batch: &Batch, time: Time, horizon: Time) {
        for (name, document) in batch.changes() {
            let history = self.histories.entry(name.clone()).or_default();
            history.0.push_back((time, document.clone()));
            history.prune(horizon);
            if document.is_none() {
                self.deleted.push_back((time, name.clone()));
            }
        }
        self.prune_deleted(horizon);
    }

    fn prune_deleted(&mut self, horizon: Time) {
        while let Some((_, name)) = self.deleted.pop_front_if(|(time, _)| *time < horizon) {
            if self.histories.get(&name).is_some_and(|history| history.is_deleted_before(horizon)) {
                self.histories.remove(&name);
            }
        }
    }
}

impl History {
    fn at(&self, time: Time) -> Stored {
        let version = self.0.iter().rev().find(|(written, _)| *written <= time);
        version.and_then(|(_, document)| document.clone())
    }

    /// Keeps the version that was current at the horizon, and all later ones.
    fn prune(&mut self, horizon: Time) {
        while self.0.get(1).is_some_and(|(written, _)| *written <= horizon) {
            self.0.pop_front();
        }
    }

    fn is_deleted_before(&self, horizon: Time) -> bool {
        self.0.back().is_none_or(|(deleted, document)| document.is_none() && *deleted < horizon)
    }
}

#[cfg(test)]
mod tests {
    use gcloud_sdk::google::firestore::v1::{Document, Write, write::Operation};

    use super::*;
    use crate::{name::DatabaseName, value::integer};

    const DATABASE: &str = "projects/p/databases/(default)";

    fn name(id: &str) -> DocumentName {
        DocumentName::parse(&format!("{DATABASE}/documents/c/{id}")).unwrap()
    }

    fn time(micros: i64) -> Time {
        Time::from_micros(micros)
    }

    fn write(documents: &mut Documents, operation: Operation, at: i64, horizon: i64) {
        let write = Write { operation: Some(operation), ..Write::default() };
        let mutation = Mutation::parse(write, &DatabaseName::parse(DATABASE).unwrap()).unwrap();
        let batch = Batch::prepare(documents, &[mutation], time(at)).unwrap();
        documents.install(&batch, time(at), time(horizon));
    }

    fn set(documents: &mut Documents, id: &str, value: i64, at: i64, horizon: i64) {
        let fields = [("v".to_owned(), integer(value))].into();
        let document = Document { name: name(id).to_string(), fields, ..Document::default() };
        write(documents, Operation::Update(document), at, horizon);
    }

    fn delete(documents: &mut Documents, id: &str, at: i64, horizon: i64) {
        write(documents, Operation::Delete(name(id).to_string()), at, horizon);
    }

    fn value(documents: &Documents, id: &str, at: i64) -> Option<i64> {
        let document = documents.read(&name(id), time(at))?;
        (0..100).find(|value| document.fields["v"] == integer(*value))
    }

    #[test]
    fn a_read_returns_the_version_at_its_time() {
        let mut documents = Documents::default();
        set(&mut documents, "a", 1, 10, 0);
        set(&mut documents, "a", 2, 20, 0);
        delete(&mut documents, "a", 30, 0);
        let seen: Vec<_> = [9, 10, 19, 20, 29, 30].map(|at| value(&documents, "a", at)).into();
        assert_eq!(seen, [None, Some(1), Some(1), Some(2), Some(2), None]);
    }

    #[test]
    fn a_document_that_is_written_again_keeps_its_create_time() {
        let mut documents = Documents::default();
        set(&mut documents, "a", 1, 10, 0);
        set(&mut documents, "a", 2, 20, 0);
        let document = documents.read(&name("a"), Time::END).unwrap();
        assert_eq!(document.create_time, Some(time(10).into()));
        assert_eq!(document.update_time, Some(time(20).into()));
    }

    #[test]
    fn versions_before_the_horizon_are_dropped_except_the_one_that_is_current_at_it() {
        let mut documents = Documents::default();
        for at in 1..=10 {
            set(&mut documents, "a", at, at, 5);
        }
        assert_eq!(value(&documents, "a", 4), None);
        assert_eq!(value(&documents, "a", 5), Some(5));
    }

    #[test]
    fn a_document_deleted_before_the_horizon_leaves_nothing_behind() {
        let mut documents = Documents::default();
        set(&mut documents, "a", 1, 10, 0);
        delete(&mut documents, "a", 20, 0);
        set(&mut documents, "b", 1, 30, 25);
        assert_eq!(documents.histories.len(), 1);
    }

    #[test]
    fn a_prefix_lists_the_documents_below_it_at_a_time() {
        let mut documents = Documents::default();
        for (at, id) in [(1, "b"), (2, "a"), (3, "c")] {
            set(&mut documents, id, at, at, 0);
        }
        let prefix = format!("{DATABASE}/documents/c/");
        let ids =
            |at| documents.below(&prefix, time(at)).map(|(name, _)| name.id()).collect::<Vec<_>>();
        assert_eq!(ids(2), ["a", "b"]);
        assert_eq!(ids(3), ["a", "b", "c"]);
    }
}
