//! Delivery of events from operations to the observer, which no operation waits for.

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

/// How long the observer's thread sleeps between two checks for notes.
const REST: Duration = Duration::from_millis(2);

/// How many checks in a row find no note before the thread sleeps until it is woken. Waking it is a
/// system call, which takes longer than everything else here and delays the operation that sends
/// the note. With this limit, no operation that follows another one within a second pays that cost.
const RESTS: usize = 500;

/// Whether the observer receives keys and ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    Hashes,
    Clear,
}

/// What an operation sends to the observer's thread, which creates the event from it.
pub(super) struct Note {
    pub(super) operation: Operation,
    pub(super) verdict: Verdict,
    pub(super) key: Option<LockKey>,
    pub(super) lock_id: Option<LockId>,
    pub(super) duration: Duration,
}

/// Where operations send their notes. When it is dropped, the thread ends after delivering all
/// notes.
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

    /// Sends a note if there is room. The channel's queue is an array: no sender waits for another,
    /// nor for the observer.
    pub(super) fn send(&self, note: Note) {
        if self.notes.try_send(note).is_err() {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

/// The state of the observer's thread.
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

    /// Waits for a note. Returns `None` once all senders are gone and all notes are delivered.
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
