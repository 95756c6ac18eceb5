use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use syncguard::BootInstant;
use syncguard_testkit::{
    contender::Storm,
    history::{Event, Journal, Record},
};
use tokio_util::sync::CancellationToken;

use crate::Outcome;

/// The part of this process in a storm.
pub(crate) struct Member {
    pub(crate) storm: Storm,
    /// The URL of the store.
    pub(crate) url: String,
    /// Is cancelled when the storm is over.
    pub(crate) input_ended: CancellationToken,
    journal: Journal,
    waits: AtomicU64,
}

impl Member {
    pub(crate) fn new(storm: Storm, url: String) -> Outcome<Arc<Self>> {
        let (journal, input_ended) = (Journal::open(&storm.journal)?, end_of_input());
        Ok(Arc::new(Self { storm, url, input_ended, journal, waits: AtomicU64::new(0) }))
    }

    /// Records an event of this process.
    pub(crate) fn record(&self, at: BootInstant, event: Event) -> Outcome<()> {
        let process = self.storm.process;
        Ok(self.journal.write(&Record { process, at, event })?)
    }

    /// Returns the number of another wait.
    pub(crate) fn next_wait(&self) -> u64 {
        self.waits.fetch_add(1, Ordering::Relaxed)
    }
}

/// Returns a token that is cancelled at the end of the standard input.
fn end_of_input() -> CancellationToken {
    let input_ended = CancellationToken::new();
    let token = input_ended.clone();
    std::thread::spawn(move || {
        io::stdin().lines().for_each(drop);
        token.cancel();
    });
    input_ended
}
