//! The announcement of a writer that waits for shared holders to leave.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::runtime::Handle;

use super::{
    cleanup::{Action, Cleanup},
    shared::Shared,
};
use crate::{LockId, LockKey, Ttl, backend::Mode};

/// How long an announcement keeps new shared holders out. A writer that waits on renews it in time;
/// one that died keeps readers out for that long.
const ANNOUNCEMENT: Duration = Duration::from_secs(1);

/// The longest time between two announcements. The random delay until the next one is at least half
/// of it, so that a request may be slow or lost without new readers getting in.
pub(crate) const MAX_RENEWAL: Duration = Duration::from_millis(500);

/// The announcements of the writers that are the head of a queue one after the other: each keeps up
/// the announcement of the one before, with its first attempt. Dropped when the turn passes to
/// another waiter than a writer, or to none.
///
/// **Invariant:** none of them stays behind. The announcement that the store recorded last is
/// withdrawn on the drop, by abandoning its id; a grant replaces it at the store.
///
/// The head makes one attempt at a time, so replies arrive in the order of the announcements, with
/// two exceptions: the attempt in flight when the announcements end, and that of a head which was
/// skipped, because it was not polled. Such an attempt [learns](PendingAnnouncement::announced) when
/// its reply arrives that it is not the last one any more, and withdraws its own announcement. It
/// must not be recorded in place of the later one, which would then stay behind. Nor can it be left
/// alone: the store may have handled it after the later one. In that case the withdrawal leaves the
/// key without an announcement until the head renews it, within [`MAX_RENEWAL`].
pub(crate) struct Announcing {
    shared: Arc<Shared>,
    key: LockKey,
    home: Handle,
    state: Arc<Mutex<State>>,
}

/// An announcement whose request is not answered yet.
pub(crate) struct PendingAnnouncement {
    key: LockKey,
    number: u64,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The id of the last announcement, once the store has recorded it; until then, that of the one
    /// before.
    announced: Option<LockId>,
    /// The number of the last announcement; higher than that of any once they have ended.
    last: u64,
}

impl Announcing {
    pub(crate) fn new(shared: Arc<Shared>, key: LockKey, home: Handle) -> Self {
        Self { shared, key, home, state: Arc::default() }
    }

    /// Begins an announcement.
    pub(crate) fn announce(&self) -> PendingAnnouncement {
        let mut state = lock(&self.state);
        state.last += 1;
        let number = state.last;
        drop(state);
        PendingAnnouncement { key: self.key.clone(), number, state: self.state.clone() }
    }

    /// Records a grant, which has replaced the announcement.
    pub(crate) fn granted(&self) {
        lock(&self.state).announced = None;
    }
}

impl PendingAnnouncement {
    /// Returns for how long the request announces.
    pub(crate) fn duration(&self) -> Duration {
        ANNOUNCEMENT
    }

    /// Records that the store has refused the request, and recorded its announcement.
    pub(crate) fn announced(self, lock_id: LockId, shared: &Arc<Shared>, home: &Handle) {
        let mut state = lock(&self.state);
        let is_last = state.last == self.number;
        if is_last {
            state.announced = Some(lock_id);
        }
        drop(state);
        if !is_last {
            withdraw(self.key, lock_id, shared, home);
        }
    }
}

impl Drop for Announcing {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.last += 1;
        let announced = state.announced.take();
        drop(state);
        if let Some(lock_id) = announced {
            withdraw(self.key.clone(), lock_id, &self.shared, &self.home);
        }
    }
}

fn withdraw(key: LockKey, lock_id: LockId, shared: &Arc<Shared>, home: &Handle) {
    let (mode, ttl, action) = (Mode::Exclusive, Ttl::covering(ANNOUNCEMENT), Action::Abandon);
    Cleanup { key, lock_id, mode, ttl, action, keep_until: None, counted: false }
        .start(shared, home);
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    // Nothing panics while the state is locked, so it is consistent even if poisoned.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
