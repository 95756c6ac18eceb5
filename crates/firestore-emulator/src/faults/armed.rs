use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Action, Fault};
use crate::rpc::Rpc;

/// A fault, the number of calls it has been assigned to, and the number it has already hit.
#[derive(Debug)]
pub(crate) struct Armed {
    fault: Fault,
    assigned: AtomicUsize,
    hits: watch::Sender<usize>,
    released: CancellationToken,
}

impl Armed {
    pub(super) fn new(fault: Fault) -> Self {
        let (hits, _) = watch::channel(0);
        Self { fault, assigned: AtomicUsize::new(0), hits, released: CancellationToken::new() }
    }

    pub(super) fn matches_call(&self, rpc: Rpc, documents: &[String]) -> bool {
        self.fault.matches_call(rpc, documents)
    }

    pub(super) fn action(&self) -> Action {
        self.fault.action
    }

    pub(super) async fn released(&self) {
        self.released.cancelled().await;
    }

    /// Records that it happens now.
    pub(super) fn hit(&self) {
        self.hits.send_modify(|hits| *hits += 1);
    }

    /// Counts a call that it applies to, and returns whether it hits that call. Must be called
    /// under the lock of all faults, so that no fault hits too many calls.
    pub(super) fn assign(&self) -> bool {
        self.assigned.fetch_add(1, Ordering::Relaxed) < self.fault.times
    }

    /// Returns whether it has been assigned to enough calls.
    pub(super) fn is_spent(&self) -> bool {
        self.assigned.load(Ordering::Relaxed) >= self.fault.times
    }

    /// Returns how often it has happened.
    pub(super) fn hits(&self) -> watch::Receiver<usize> {
        self.hits.subscribe()
    }

    /// Releases the calls that it holds, and holds no more.
    pub(super) fn release(&self) {
        self.released.cancel();
    }
}
