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
use crate::{LockId, LockKey, Ttl};

/// How long an announcement keeps new shared holders out. A writer that waits on renews it in time;
/// one that died keeps readers out for that long.
const ANNOUNCEMENT: Duration = Duration::from_secs(1);

/// The longest time between two announcements. The random delay until the next one is at least half
/// of it, so that a request may be slow or lost without new readers getting in.
pub(crate) const MAX_RENEWAL: Duration = Duration::from_millis(500);

/// The announcements of one wait for a lock.
///
/// **Invariant:** when the wait ends without a grant, no announcement stays behind for longer than
/// [`ANNOUNCEMENT`]: the last one is withdrawn by abandoning its id. That includes one whose request
/// is in flight at that time. It [learns](PendingAnnouncement::announced) when its reply arrives that
/// the wait is over, and withdraws its own. A grant replaces the announcement at the store.
pub(crate) struct Announcing {
    shared: Arc<Shared>,
    key: LockKey,
    home: Handle,
    state: Arc<Mutex<State>>,
}

/// An announcement whose request is not answered yet.
#[derive(Clone)]
pub(crate) struct PendingAnnouncement {
    key: LockKey,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The id of the last announcement that the store has recorded.
    announced: Option<LockId>,
    /// Whether the wait is over.
    ended: bool,
}

impl Announcing {
    pub(crate) fn new(shared: Arc<Shared>, key: LockKey, home: Handle) -> Self {
        Self { shared, key, home, state: Arc::default() }
    }

    /// Begins an announcement.
    pub(crate) fn announce(&self) -> PendingAnnouncement {
        PendingAnnouncement { key: self.key.clone(), state: self.state.clone() }
    }

    /// Ends the wait with a grant, which has replaced the announcement.
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
        state.announced = Some(lock_id);
        let ended = state.ended;
        drop(state);
        if ended {
            withdraw(self.key, lock_id, shared, home);
        }
    }
}

impl Drop for Announcing {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.ended = true;
        let announced = state.announced.take();
        drop(state);
        if let Some(lock_id) = announced {
            withdraw(self.key.clone(), lock_id, &self.shared, &self.home);
        }
    }
}

fn withdraw(key: LockKey, lock_id: LockId, shared: &Arc<Shared>, home: &Handle) {
    let (ttl, action) = (Ttl::covering(ANNOUNCEMENT), Action::Abandon);
    Cleanup { key, lock_id, ttl, action, keep_until: None, counted: None }.start(shared, home);
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    // Nothing panics while the state is locked, so it is consistent even if poisoned.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
