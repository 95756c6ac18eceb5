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

    /// Returns the faults that apply to a call, and removes those that have been assigned to enough
    /// calls.
    pub(crate) fn strike(&self, rpc: Rpc, documents: &[String]) -> Strike {
        let mut armed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let assigned = armed.iter().filter(|armed| armed.matches_call(rpc, documents));
        let assigned: Vec<_> = assigned.filter(|armed| armed.assign()).cloned().collect();
        armed.retain(|armed| !armed.is_spent());
        Strike::of(assigned)
    }
}

/// An injected fault. Dropping this handle does not remove the fault.
#[derive(Debug)]
pub struct Injection(Arc<Armed>);

impl Injection {
    /// Returns how often it has happened. A test of a fault first proves that the fault happened. A
    /// fault that hits a call after it is done counts from then on.
    #[must_use]
    pub fn hits(&self) -> usize {
        *self.0.hits().borrow()
    }

    /// Waits until it has happened this often.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn happened(&self, times: usize) {
        let mut hits = self.0.hits();
        // The sender is in `self`, so it cannot be closed.
        drop(hits.wait_for(|hits| *hits >= times).await);
    }

    /// Releases the calls that it holds, and holds no more.
    pub fn release(&self) {
        self.0.release();
    }
}
