//! The release of a lock by its holder.

use std::sync::Arc;

use super::{lease_state::LeaseState, validity::End};
use crate::{Error, ReleaseOutcome, telemetry};

/// Ends a lease here and at the store.
pub(crate) async fn release(lease: Arc<LeaseState>) -> Result<ReleaseOutcome, Error> {
    lease.end_with(End::Released);
    let (shared, host) = (lease.shared.clone(), lease.shared.runtimes.host(&lease.home));
    let releasing = telemetry::releasing(&lease.key, lease.lock_id, lease.fence);
    let result = releasing.within(shared.detached(&host, release_at_store(lease))).await;
    releasing.end(result)
}

async fn release_at_store(lease: Arc<LeaseState>) -> Result<ReleaseOutcome, Error> {
    let mut pending = ReleaseOnDrop { lease: lease.clone(), armed: true };
    if lease.keep_until().is_some() {
        // An extend that overtook this one would decide when the key is free.
        lease.extends_finished().await;
    }
    let shared = &lease.shared;
    let reply = shared.end_grant(&lease.lock_ref(), lease.keep_until(), &lease.home).await;
    if reply.is_ok() {
        // An acquire that is still in flight would be granted after the release: abandon it too.
        pending.armed = lease.is_in_doubt();
        match lease.uncount() {
            true => shared.holds.released(&lease.key, lease.mode),
            false => shared.holds.freed(&lease.key),
        }
    }
    reply.map_err(|error| error.with_key(&lease.key).with_lock_id(lease.lock_id))
}

/// A release that the store has not answered. If dropped, it continues in the background.
struct ReleaseOnDrop {
    lease: Arc<LeaseState>,
    armed: bool,
}

impl Drop for ReleaseOnDrop {
    fn drop(&mut self) {
        if self.armed {
            self.lease.release_in_background();
        }
    }
}
