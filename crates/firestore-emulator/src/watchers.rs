//! Who watches which documents.

use std::collections::{HashMap, HashSet};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{
    name::DocumentName,
    store::{Batch, Stored},
    time::Time,
};

/// What a commit did to documents that somebody watches.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) at: Time,
    pub(crate) documents: Vec<(DocumentName, Stored)>,
}

/// All who watch.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    watchers: HashMap<u64, Watcher>,
    next: u64,
}

#[derive(Debug)]
struct Watcher {
    names: HashSet<DocumentName>,
    news: UnboundedSender<Change>,
}

impl Watchers {
    /// Takes a place among those who watch, and returns its number and what is told there.
    pub(crate) fn enter(&mut self) -> (u64, UnboundedReceiver<Change>) {
        let (sender, news) = unbounded_channel();
        self.next += 1;
        self.watchers.insert(self.next, Watcher { names: HashSet::new(), news: sender });
        (self.next, news)
    }

    pub(crate) fn leave(&mut self, id: u64) {
        self.watchers.remove(&id);
    }

    /// Lets a watcher watch one more document.
    pub(crate) fn add(&mut self, id: u64, name: DocumentName) {
        if let Some(watcher) = self.watchers.get_mut(&id) {
            watcher.names.insert(name);
        }
    }

    /// Lets a watcher watch these documents and no others.
    pub(crate) fn keep(&mut self, id: u64, names: HashSet<DocumentName>) {
        if let Some(watcher) = self.watchers.get_mut(&id) {
            watcher.names = names;
        }
    }

    /// Tells each of what it watches, in the order of the commits.
    pub(crate) fn tell(&self, batch: &Batch, at: Time) {
        for watcher in self.watchers.values() {
            let changes = batch.changes().filter(|(name, _)| watcher.names.contains(*name));
            let documents: Vec<_> =
                changes.map(|(name, stored)| (name.clone(), stored.clone())).collect();
            if !documents.is_empty() {
                // Whoever does not listen any more is about to leave.
                drop(watcher.news.send(Change { at, documents }));
            }
        }
    }
}
