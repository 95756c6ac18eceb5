use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Deed, Fault, strike::Strike};
use crate::Rpc;

/// The faults that wait for calls.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Vec<Arc<Armed>>>);

/// A fault, how many calls it has met, and with how many of them it has already happened.
#[derive(Debug)]
pub(crate) struct Armed {
    fault: Fault,
    met: AtomicUsize,
    hits: watch::Sender<usize>,
    released: CancellationToken,
}

impl Faults {
    pub(crate) fn inject(&self, fault: Fault) -> Injection {
        let (hits, _) = watch::channel(0);
        let armed = Arc::new(Armed {
            fault,
            met: AtomicUsize::new(0),
            hits,
            released: CancellationToken::new(),
        });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(armed.clone());
        Injection(armed)
    }

    /// Finds the faults that a call meets, and forgets those that have met enough of them.
    pub(crate) fn strike(&self, rpc: Rpc, documents: &[String]) -> Strike {
        let mut armed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let met = armed.iter().filter(|armed| armed.fault.concerns(rpc, documents));
        let met: Vec<_> = met.filter(|armed| armed.meets()).cloned().collect();
        armed.retain(|armed| armed.met.load(Ordering::Relaxed) < armed.fault.times);
        Strike::of(met)
    }
}

impl Armed {
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

    // Under the lock of all faults, so no call is counted too many.
    fn meets(&self) -> bool {
        self.met.fetch_add(1, Ordering::Relaxed) < self.fault.times
    }
}

/// A fault that was injected. Dropping it leaves the fault where it is.
#[derive(Debug)]
pub struct Injection(Arc<Armed>);

impl Injection {
    /// How often it has happened: whoever tests a fault shows first that it did. What happens to a call
    /// once it is done counts from then on.
    #[must_use]
    pub fn hits(&self) -> usize {
        *self.0.hits.borrow()
    }

    /// Waits until it has happened so often.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn happened(&self, times: usize) {
        let mut hits = self.0.hits.subscribe();
        // The sender is in `self`, so it cannot be gone.
        drop(hits.wait_for(|hits| *hits >= times).await);
    }

    /// Lets the calls go on that it holds, and holds no more.
    pub fn release(&self) {
        self.0.released.cancel();
    }
}
