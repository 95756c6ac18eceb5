use std::sync::{Arc, Mutex, PoisonError};

use super::{Fault, armed::Armed, strike::Strike};
use crate::rpc::Rpc;

/// The faults that wait for calls.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Vec<Arc<Armed>>>);

impl Faults {
    pub(crate) fn inject(&self, fault: Fault) -> Injection {
        let armed = Arc::new(Armed::new(fault));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(armed.clone());
        Injection(armed)
    }

    /// Finds the faults that a call meets, and forgets those that have met enough of them.
    pub(crate) fn strike(&self, rpc: Rpc, documents: &[String]) -> Strike {
        let mut armed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let met = armed.iter().filter(|armed| armed.concerns(rpc, documents));
        let met: Vec<_> = met.filter(|armed| armed.meets()).cloned().collect();
        armed.retain(|armed| !armed.is_spent());
        Strike::of(met)
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
        *self.0.hits().borrow()
    }

    /// Waits until it has happened so often.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn happened(&self, times: usize) {
        let mut hits = self.0.hits();
        // The sender is in `self`, so it cannot be gone.
        drop(hits.wait_for(|hits| *hits >= times).await);
    }

    /// Lets the calls go on that it holds, and holds no more.
    pub fn release(&self) {
        self.0.release();
    }
}
