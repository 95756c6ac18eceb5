//! The watchers, and the documents that each of them watches.

use std::collections::{HashMap, HashSet};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{
    name::DocumentName,
    store::{Batch, Stored},
    time::Time,
};

/// What a commit did to watched documents.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) at: Time,
    pub(crate) documents: Vec<(DocumentName, Stored)>,
}

/// All watchers.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    watchers: HashMap<u64, Watcher>,
    next: u64,
}

#[derive(Debug)]
struct Watcher {
    names: HashSet<DocumentName>,
    changes: UnboundedSender<Change>,
}

impl Watchers {
    /// Adds a watcher, and returns its number and the receiver of its changes.
    pub(crate) fn register(&mut self) -> (u64, UnboundedReceiver<Change>) {
        let (sender, changes) = unbounded_channel();
        self.next += 1;
        self.watchers.insert(self.next, Watcher { names: HashSet::new(), changes: sender });
        (self.next, changes)
    }

    pub(crate) fn unregister(&mut self, id: u64) {
        self.watchers.remove(&id);
    }

    /// Adds a document to those of a watcher.
    pub(crate) fn add(&mut self, id: u64, name: DocumentName) {
        if let Some(watcher) = self.watchers.get_mut(&id) {
            watcher.names.insert(name);
        }
    }

    /// Restricts a watcher to these documents.
    pub(crate) fn retain_only(&mut self, id: u64, names: HashSet<DocumentName>) {
        if let Some(watcher) = self.watchers.get_mut(&id) {
            watcher.names = names;
        }
    }

    /// Notifies each watcher of changes to its documents, in the order of the commits.
    pub(crate) fn notify(&self, batch: &Batch, at: Time) {
        for watcher in self.watchers.values() {
            let changes = batch.changes().filter(|(name, _)| watcher.names.contains(*name));
            let documents: Vec<_> =
                changes.map(|(name, stored)| (name.clone(), stored.clone())).collect();
            if !documents.is_empty() {
                // A watcher that no longer listens is about to leave.
                drop(watcher.changes.send(Change { at, documents }));
            }
        }
    }
}
