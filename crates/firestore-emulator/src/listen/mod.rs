//! Telling of changes to documents.

mod messages;
mod targets;

use std::{collections::HashSet, sync::Arc};

use tokio::sync::mpsc::UnboundedReceiver;

pub(crate) use targets::Targets;

use crate::{database::Database, name::DocumentName, store::Stored, time::Time, watchers::Change};

/// A place among those who watch, which is left when it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    database: Arc<Database>,
    id: u64,
    news: UnboundedReceiver<Change>,
}

impl Watch {
    pub(crate) fn open(database: Arc<Database>) -> Self {
        let (id, news) = database.state().watchers.enter();
        Self { database, id, news }
    }

    /// Begins to watch a document, and tells how it is. Every later change is news.
    pub(crate) fn add(&self, name: &DocumentName) -> (Stored, Time) {
        let mut state = self.database.state();
        state.watchers.add(self.id, name.clone());
        state.latest(name)
    }

    /// Stops watching all documents but these.
    pub(crate) fn keep(&self, names: HashSet<DocumentName>) {
        self.database.state().watchers.keep(self.id, names);
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
        self.database.state().watchers.leave(self.id);
    }
}
