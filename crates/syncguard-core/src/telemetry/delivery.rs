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

use super::{Event, classification::Classification};
use crate::{LockId, LockKey, Operation};

/// How long the observer's thread sleeps between two checks for events.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// How many checks in a row find no event before the thread sleeps until it is woken. Waking it is
/// a system call, which takes longer than everything else here and delays the operation that sends
/// the event. With this limit, no operation that follows another one within a second pays that
/// cost.
const MAX_IDLE_POLLS: usize = 500;

/// How the observer receives keys and ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyFormat {
    /// As hashes.
    Hashed,
    /// As hashes, and in clear.
    Clear,
}

/// What an operation sends to the observer's thread, which creates the event from it.
pub(super) struct RawEvent {
    pub(super) operation: Operation,
    pub(super) classification: Classification,
    pub(super) key: Option<LockKey>,
    pub(super) lock_id: Option<LockId>,
    pub(super) duration: Duration,
}

/// Sends the events of operations to the observer's thread. When it is dropped, the thread delivers
/// the remaining events and ends.
pub(super) struct EventSender {
    queue: SyncSender<RawEvent>,
    missed: Arc<AtomicU64>,
}

impl EventSender {
    pub(super) fn start(
        capacity: usize,
        keys: KeyFormat,
        observer: impl FnMut(&Event) + Send + 'static,
    ) -> Self {
        let (queue, receiver) = sync_channel(capacity);
        let missed = Arc::<AtomicU64>::default();
        let delivery = Delivery {
            queue: receiver,
            missed: missed.clone(),
            missed_before: 0,
            keys,
            observer,
            panicked: false,
        };
        let thread = thread::Builder::new().name("syncguard-observer".to_owned());
        if let Err(error) = thread.spawn(move || delivery.run()) {
            tracing::error!(
                target: "syncguard",
                %error,
                "the observer's thread could not be started; all events are lost"
            );
        }
        Self { queue, missed }
    }

    /// Sends an event if the queue has room. The queue of the channel is an array: a sender waits
    /// neither for other senders nor for the observer.
    pub(super) fn send(&self, event: RawEvent) {
        if self.queue.try_send(event).is_err() {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

/// The state of the observer's thread.
struct Delivery<F> {
    queue: Receiver<RawEvent>,
    missed: Arc<AtomicU64>,
    missed_before: u64,
    keys: KeyFormat,
    observer: F,
    panicked: bool,
}

impl<F: FnMut(&Event)> Delivery<F> {
    fn run(mut self) {
        while let Some(raw) = self.next() {
            let event = self.event(raw);
            let result = catch_unwind(AssertUnwindSafe(|| (self.observer)(&event)));
            if result.is_err() && !self.panicked {
                self.panicked = true;
                tracing::error!(
                    target: "syncguard",
                    "an observer panicked; further panics are not logged"
                );
            }
        }
    }

    /// Waits for an event. Returns `None` once the sender is dropped and all events are delivered.
    fn next(&self) -> Option<RawEvent> {
        for _ in 0..MAX_IDLE_POLLS {
            match self.queue.try_recv() {
                Ok(event) => return Some(event),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => thread::sleep(POLL_INTERVAL),
            }
        }
        self.queue.recv().ok()
    }

    fn event(&mut self, raw: RawEvent) -> Event {
        let RawEvent { operation, classification, key, lock_id, duration } = raw;
        let missed = self.missed.load(Ordering::Relaxed);
        let missed_before = std::mem::replace(&mut self.missed_before, missed);
        let clear = self.keys == KeyFormat::Clear;
        Event {
            operation,
            outcome: classification.outcome,
            reason: classification.reason,
            key_hash: key.as_ref().map(LockKey::display_hash),
            lock_id_hash: lock_id.as_ref().map(LockId::display_hash),
            fence: classification.fence,
            duration,
            key: key.filter(|_| clear),
            lock_id: lock_id.filter(|_| clear),
            missed: missed - missed_before,
        }
    }
}
