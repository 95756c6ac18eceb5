//! Extending a lease for as long as its guard lives.

use std::time::Duration;

use super::lease::{Lease, STRETCH};
use crate::{Error, ErrorKind, telemetry};

/// Says whether a lock is extended while its guard lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Renew {
    /// It is not: it is held for its ttl, or as long as the caller extends it.
    #[default]
    Never,
    /// Every third of the ttl.
    Auto,
    /// Every so often, at most once in a millisecond. Where that is not well within the ttl, the
    /// lease is over before it is extended.
    Every(Duration),
}

/// No lease is extended more often than this, whatever is asked for.
const LEAST: Duration = Duration::from_millis(1);

/// How long a renewal that failed rests at the most before it is tried again.
const PAUSE: Duration = Duration::from_millis(250);

/// Starts the task that renews a lease, where it is to be renewed.
pub(crate) fn start(lease: &Lease, renew: Renew) {
    if renew != Renew::Never {
        lease.runtime().spawn(look_after(lease.clone(), renew));
    }
}

async fn look_after(lease: Lease, renew: Renew) {
    tokio::select! {
        () = lease.lost() => {}
        () = renewals(&lease, renew) => {}
    }
}

async fn renewals(lease: &Lease, renew: Renew) {
    let mut last = lease.now();
    loop {
        let moved = lease.moved();
        let pace = lease.pace();
        let interval = match renew {
            Renew::Never => return std::future::pending().await,
            Renew::Auto => pace / 3,
            Renew::Every(interval) => interval,
        };
        // By the boot clock, in stretches: a timer stands still while the machine sleeps.
        let due = last + interval.max(LEAST);
        let left = due.since(lease.now());
        if !left.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(left.min(STRETCH)) => {}
                () = moved => {}
            }
            continue;
        }
        last = lease.now();
        renew_once(lease).await;
    }
}

/// Extends the lease once; where the store does not answer, tries until the lease is lost, which
/// ends the task around this.
async fn renew_once(lease: &Lease) {
    while let Err(error) = extend(lease).await {
        if error.kind() == ErrorKind::Lost {
            return;
        }
        tracing::debug!(
            target: "syncguard",
            { syncguard.key.hash = %lease.key(), %error },
            "a renewal failed and is tried again"
        );
        tokio::time::sleep((lease.pace() / 10).min(PAUSE)).await;
    }
}

async fn extend(lease: &Lease) -> Result<(), Error> {
    let renewing = telemetry::renewing(lease);
    let result = renewing.within(lease.extend_once(lease.ttl())).await;
    renewing.end(result)
}
