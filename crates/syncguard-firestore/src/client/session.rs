//! The connections of a runtime.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use gcloud_sdk::{GoogleAuthMiddleware, google::firestore::v1::firestore_client::FirestoreClient};
use tokio::sync::OnceCell;

use super::settings::Settings;
use crate::error::Failure;

pub(super) type Service = FirestoreClient<GoogleAuthMiddleware>;

/// The number of calls in flight on the common connection from which extends and releases use
/// their own.
///
/// The service allows 100 concurrent streams on a connection. The driver keeps further calls in a
/// queue of its own, in order of arrival. A call that finds fewer than this number is not queued.
const CROWDED_THRESHOLD: usize = 50;

/// The purpose of a call. Each has a connection of its own once the common one is crowded, so that
/// an extend waits only for extends, and a release only for releases, however many acquires there
/// are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Acquires and everything that only reads, on the common connection.
    Common,
    /// Releases, abandons and forced releases.
    Release,
    Extend,
}

/// The connections, each opened when it is first needed.
#[derive(Default)]
pub(super) struct Session {
    lanes: [OnceCell<Service>; 3],
    in_flight: Arc<AtomicUsize>,
}

/// A call that is in flight on the common connection. A call that is no longer polled counts as
/// well. That blocks no other call: it may only make the connection look crowded.
pub(super) struct InFlightGuard(Option<Arc<AtomicUsize>>);

impl Session {
    /// Returns the connection for a call, and a guard to keep until the call ends.
    pub(super) async fn service(
        self: Arc<Self>,
        lane: Lane,
        settings: &Arc<Settings>,
    ) -> Result<(Service, InFlightGuard), Failure> {
        let lane = self.lane(lane);
        let in_flight = self.count(lane);
        if let Some(service) = self.lanes[lane as usize].get() {
            return Ok((service.clone(), in_flight));
        }
        // Connects in a task: a caller that is no longer polled must not block the others.
        let settings = settings.clone();
        let connecting = async move {
            let connect = async || settings.client().await.map(Service::new);
            self.lanes[lane as usize].get_or_try_init(connect).await.cloned()
        };
        let connected = tokio::spawn(connecting).await;
        Ok((connected.unwrap_or(Err(Failure::NoRuntime))?, in_flight))
    }

    fn lane(&self, lane: Lane) -> Lane {
        let crowded = self.in_flight.load(Ordering::Relaxed) >= CROWDED_THRESHOLD;
        if crowded { lane } else { Lane::Common }
    }

    fn count(&self, lane: Lane) -> InFlightGuard {
        let counted = (lane == Lane::Common).then(|| self.in_flight.clone());
        if let Some(in_flight) = &counted {
            in_flight.fetch_add(1, Ordering::Relaxed);
        }
        InFlightGuard(counted)
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        if let Some(in_flight) = &self.0 {
            in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
