//! Reports changes to documents.

mod messages;
mod targets;

use std::{collections::HashSet, sync::Arc};

use tokio::sync::mpsc::UnboundedReceiver;

pub(crate) use targets::Targets;

use crate::{database::Database, name::DocumentName, store::Stored, time::Time, watchers::Change};

/// A registration as a watcher. Dropping it removes the watcher.
#[derive(Debug)]
pub(crate) struct Watch {
    database: Arc<Database>,
    id: u64,
    changes: UnboundedReceiver<Change>,
}

impl Watch {
    pub(crate) fn open(database: Arc<Database>) -> Self {
        let (id, changes) = database.state().watchers.register();
        Self { database, id, changes }
    }

    /// Begins to watch a document, and returns its present version with the read time. Every later
    /// change is reported.
    pub(crate) fn add(&self, name: &DocumentName) -> (Stored, Time) {
        let mut state = self.database.state();
        state.watchers.add(self.id, name.clone());
        state.latest(name)
    }

    /// Stops watching all documents except these.
    pub(crate) fn retain_only(&self, names: HashSet<DocumentName>) {
        self.database.state().watchers.retain_only(self.id, names);
    }

    /// Waits for the next change.
    ///
    /// # Cancel safety
    ///
    /// If dropped before it is ready, no change is lost.
    pub(crate) async fn next(&mut self) -> Option<Change> {
        self.changes.recv().await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.database.state().watchers.unregister(self.id);
    }
}
