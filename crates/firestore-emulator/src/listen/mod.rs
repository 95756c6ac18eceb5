//! Telling of changes to documents.

mod messages;
mod targets;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub(crate) use targets::Targets;

use crate::{
    database::Database,
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

/// A place among those who watch, which is left when it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    database: Arc<Database>,
    id: u64,
    news: UnboundedReceiver<Change>,
}

impl Watch {
    pub(crate) fn open(database: Arc<Database>) -> Self {
        let (sender, news) = unbounded_channel();
        let mut state = database.state();
        let watchers = &mut state.watchers;
        watchers.next += 1;
        let id = watchers.next;
        watchers.watchers.insert(id, Watcher { names: HashSet::new(), news: sender });
        drop(state);
        Self { database, id, news }
    }

    /// Begins to watch a document, and tells how it is. Every later change is news.
    pub(crate) fn add(&self, name: &DocumentName) -> (Stored, Time) {
        let mut state = self.database.state();
        if let Some(watcher) = state.watchers.watchers.get_mut(&self.id) {
            watcher.names.insert(name.clone());
        }
        state.latest(name)
    }

    /// Stops watching all documents but these.
    pub(crate) fn keep(&self, names: HashSet<DocumentName>) {
        if let Some(watcher) = self.database.state().watchers.watchers.get_mut(&self.id) {
            watcher.names = names;
        }
    }

    /// Waits for the next change.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it has lost nothing.
    pub(crate) async fn next(&mut self) -> Option<Change> {
        self.news.recv().await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.database.state().watchers.watchers.remove(&self.id);
    }
}
