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

/// How many calls may be in flight on the common connection before extends and releases leave it.
///
/// The service opens 100 streams at a time on a connection. The driver keeps further calls in a queue
/// of its own, in the order in which they came. One that finds fewer than this many is not queued.
const CROWDED: usize = 50;

/// What a call is made for. Each has a connection of its own once the common one is crowded, so that an
/// extend waits for nothing but extends, and a release for nothing but releases, however many acquires
/// there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Acquires and everything that only looks, on the common connection.
    Common,
    /// Releases, abandons and forced releases.
    Release,
    Extend,
}

/// The connections, each made when it is first needed.
#[derive(Default)]
pub(super) struct Session {
    lanes: [OnceCell<Service>; 3],
    in_flight: Arc<AtomicUsize>,
}

/// A call that is in flight on the common connection. One that no one polls any more counts as well,
/// which keeps others from nothing: it may only make the connection look crowded.
pub(super) struct InFlight(Option<Arc<AtomicUsize>>);

impl Session {
    /// Returns the connection for a call, and what to keep until its end.
    pub(super) async fn service(
        self: Arc<Self>,
        lane: Lane,
        settings: &Arc<Settings>,
    ) -> Result<(Service, InFlight), Failure> {
        let lane = self.lane(lane);
        let in_flight = self.count(lane);
        if let Some(service) = self.lanes[lane as usize].get() {
            return Ok((service.clone(), in_flight));
        }
        // Made in a task: a caller that is no longer polled must not keep the others waiting.
        let settings = settings.clone();
        let make = async move {
            let make = async || settings.client().await.map(Service::new);
            self.lanes[lane as usize].get_or_try_init(make).await.cloned()
        };
        let made = tokio::spawn(make).await;
        Ok((made.unwrap_or(Err(Failure::NoRuntime))?, in_flight))
    }

    fn lane(&self, lane: Lane) -> Lane {
        let crowded = self.in_flight.load(Ordering::Relaxed) >= CROWDED;
        if crowded { lane } else { Lane::Common }
    }

    fn count(&self, lane: Lane) -> InFlight {
        let counted = (lane == Lane::Common).then(|| self.in_flight.clone());
        if let Some(in_flight) = &counted {
            in_flight.fetch_add(1, Ordering::Relaxed);
        }
        InFlight(counted)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(in_flight) = &self.0 {
            in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
