use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Deed, Fault};
use crate::rpc::Rpc;

/// A fault, how many calls it has met, and with how many of them it has already happened.
#[derive(Debug)]
pub(crate) struct Armed {
    fault: Fault,
    met: AtomicUsize,
    hits: watch::Sender<usize>,
    released: CancellationToken,
}

impl Armed {
    pub(super) fn new(fault: Fault) -> Self {
        let (hits, _) = watch::channel(0);
        Self { fault, met: AtomicUsize::new(0), hits, released: CancellationToken::new() }
    }

    pub(super) fn concerns(&self, rpc: Rpc, documents: &[String]) -> bool {
        self.fault.concerns(rpc, documents)
    }

    pub(super) fn deed(&self) -> Deed {
        self.fault.deed
    }

    pub(super) async fn released(&self) {
        self.released.cancelled().await;
    }

    /// Says that it happens now.
    pub(super) fn hit(&self) {
        self.hits.send_modify(|hits| *hits += 1);
    }

    /// Counts a call that it concerns, and tells whether it happens to it. It is called under the lock of
    /// all faults, so no call is counted too many.
    pub(super) fn meets(&self) -> bool {
        self.met.fetch_add(1, Ordering::Relaxed) < self.fault.times
    }

    /// Tells whether it has met enough calls.
    pub(super) fn is_spent(&self) -> bool {
        self.met.load(Ordering::Relaxed) >= self.fault.times
    }

    /// How often it has happened.
    pub(super) fn hits(&self) -> watch::Receiver<usize> {
        self.hits.subscribe()
    }

    /// Lets the calls go on that it holds, and holds no more.
    pub(super) fn release(&self) {
        self.released.cancel();
    }
}
