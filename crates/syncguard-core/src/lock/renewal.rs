//! Extending a lease for as long as its guard lives.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    lease::Lease,
    validity::{End, Loss},
};
use crate::{ErrorKind, Ttl};

/// Says whether a lock is extended while its guard lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Renew {
    /// It is not: it is held for its ttl, or as long as the caller extends it.
    #[default]
    Never,
    /// Every third of the ttl.
    Auto,
    /// Every so often. Not shorter than the ttl, it never comes to extend anything.
    Every(Duration),
}

/// Starts the task that looks after a lease, where there is anything to look after.
pub(crate) fn start(lease: &Lease, renew: Renew, max_hold: Option<Duration>) {
    if renew != Renew::Never || max_hold.is_some() {
        lease.runtime().spawn(look_after(lease.clone(), renew, max_hold));
    }
}

async fn look_after(lease: Lease, renew: Renew, max_hold: Option<Duration>) {
    tokio::select! {
        () = lease.lost() => {}
        () = at_most(max_hold) => lease.end_with(End::Lost(Loss::MaxHold)),
        () = renewals(&lease, renew) => {}
    }
}

async fn at_most(max_hold: Option<Duration>) {
    match max_hold {
        Some(max_hold) => tokio::time::sleep(max_hold).await,
        None => std::future::pending().await,
    }
}

async fn renewals(lease: &Lease, renew: Renew) {
    let mut due = Instant::now();
    loop {
        let pace = lease.pace();
        let interval = match renew {
            Renew::Never => return std::future::pending().await,
            Renew::Auto => pace / 3,
            Renew::Every(interval) => interval,
        };
        due += interval;
        tokio::time::sleep_until(due).await;
        renew_once(lease, pace / 6).await;
        // A stall must not be followed by a burst.
        due = due.max(Instant::now() - interval / 2);
    }
}

/// Extends the lease once; where the store does not answer, tries until the lease is lost, which
/// ends the task around this.
async fn renew_once(lease: &Lease, limit: Duration) {
    let ttl: Ttl = lease.ttl();
    while let Err(error) = lease.extend_within(ttl, limit).await {
        if error.kind() == ErrorKind::Lost {
            return;
        }
        tracing::debug!(key = %lease.key(), %error, "a renewal failed and is tried again");
        tokio::time::sleep(limit.min(Duration::from_millis(250))).await;
    }
}
