//! The way from an operation to the observer, which the operation never waits for.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    thread,
    time::Duration,
};

use super::{Event, verdict::Verdict};
use crate::{LockId, LockKey, Operation};

/// How long the observer's thread rests once it has told everything.
const REST: Duration = Duration::from_millis(2);

/// How many rests in a row are in vain before it sleeps until it is woken. Waking it is a call into the
/// system, which takes longer than all the rest and is paid for by the operation that leaves the note;
/// like this, no operation pays that comes within a second of the one before.
const RESTS: usize = 500;

/// Whether the observer is told keys and ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    Hashes,
    Clear,
}

/// What an operation leaves behind; the event is made of it on the observer's thread.
pub(super) struct Note {
    pub(super) operation: Operation,
    pub(super) verdict: Verdict,
    pub(super) key: Option<LockKey>,
    pub(super) lock_id: Option<LockId>,
    pub(super) duration: Duration,
}

/// Where operations leave their notes. Dropped, it lets the thread end when all are told.
pub(super) struct Feed {
    notes: SyncSender<Note>,
    missed: Arc<AtomicU64>,
}

impl Feed {
    pub(super) fn start(
        capacity: usize,
        detail: Detail,
        observer: impl FnMut(&Event) + Send + 'static,
    ) -> Self {
        let (notes, left) = sync_channel(capacity);
        let missed = Arc::<AtomicU64>::default();
        let delivery = Delivery {
            notes: left,
            missed: missed.clone(),
            missed_before: 0,
            detail,
            observer,
            panicked: false,
        };
        let thread = thread::Builder::new().name("syncguard-observer".to_owned());
        if let Err(error) = thread.spawn(move || delivery.run()) {
            tracing::error!(target: "syncguard", %error, "nothing can be observed: no thread");
        }
        Self { notes, missed }
    }

    /// Leaves a note if there is room. The channel's queue is an array: no sender waits for
    /// another, nor for the observer.
    pub(super) fn send(&self, note: Note) {
        if self.notes.try_send(note).is_err() {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

/// What the observer's thread does.
struct Delivery<F> {
    notes: Receiver<Note>,
    missed: Arc<AtomicU64>,
    missed_before: u64,
    detail: Detail,
    observer: F,
    panicked: bool,
}

impl<F: FnMut(&Event)> Delivery<F> {
    fn run(mut self) {
        while let Some(note) = self.next() {
            let event = self.event(note);
            let told = catch_unwind(AssertUnwindSafe(|| (self.observer)(&event)));
            if told.is_err() && !self.panicked {
                self.panicked = true;
                tracing::error!(target: "syncguard", "an observer panicked; told only this once");
            }
        }
    }

    /// Waits for a note; there is none once nobody can leave one any more and all are told.
    fn next(&self) -> Option<Note> {
        for _ in 0..RESTS {
            match self.notes.try_recv() {
                Ok(note) => return Some(note),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => thread::sleep(REST),
            }
        }
        self.notes.recv().ok()
    }

    fn event(&mut self, note: Note) -> Event {
        let Note { operation, verdict, key, lock_id, duration } = note;
        let missed = self.missed.load(Ordering::Relaxed);
        let missed_before = std::mem::replace(&mut self.missed_before, missed);
        let clear = self.detail == Detail::Clear;
        Event {
            operation,
            outcome: verdict.outcome,
            reason: verdict.reason,
            key_hash: key.as_ref().map(LockKey::display_hash),
            lock_id_hash: lock_id.as_ref().map(LockId::display_hash),
            fence: verdict.fence,
            duration,
            key: key.filter(|_| clear),
            lock_id: lock_id.filter(|_| clear),
            missed: missed - missed_before,
        }
    }
}
