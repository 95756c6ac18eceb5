//! The lock, or the locks, under which a command runs.

use std::{future::poll_fn, task::Poll, time::Duration};

use syncguard::{
    Error, Lease, LockAllGuard, LockGuard, LockId, LockKey, Loss, ReleaseOutcome, Timestamp,
};

/// What is held: one lock, or several that are lost together.
#[derive(Debug)]
pub(crate) enum Held {
    One(LockGuard),
    All(LockAllGuard),
}

/// How the release of what was held ended, as far as it is known.
#[derive(Debug, Default)]
pub(crate) struct Released {
    /// How a lock was lost that the store no longer had.
    pub(crate) lost: Option<String>,
    /// Why a lock was not released. One may be lost and another not released.
    pub(crate) failure: Option<String>,
}

impl Held {
    pub(crate) fn is_valid(&self) -> bool {
        match self {
            Self::One(guard) => guard.is_valid(),
            Self::All(guard) => guard.is_valid(),
        }
    }

    /// Returns how long the locks are held unless they are renewed.
    pub(crate) fn remaining(&self) -> Duration {
        match self {
            Self::One(guard) => guard.remaining(),
            Self::All(guard) => guard.remaining(),
        }
    }

    /// Returns when the first of the locks ends unless it is renewed, on the store's clock.
    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        match self {
            Self::One(guard) => Some(guard.expires_at()),
            Self::All(guard) => {
                let leases = guard.keys().filter_map(|key| guard.lease_of(key).ok());
                leases.map(|lease| lease.expires_at()).min()
            }
        }
    }

    /// Returns which lock was lost, and how.
    pub(crate) fn loss(&self) -> Option<String> {
        match self {
            Self::One(guard) => guard.loss().map(|loss| loss_of(guard.key(), loss)),
            Self::All(guard) => guard.loss().map(|(key, loss)| loss_of(key, loss)),
        }
    }

    /// Completes as soon as a lock is lost.
    pub(crate) async fn lost(&self) {
        match self {
            Self::One(guard) => guard.lost().await,
            Self::All(guard) => guard.lost().await,
        }
    }

    /// Releases the locks in parallel, and records how each release ended as soon as it has. If
    /// dropped, the others continue in the background.
    pub(crate) async fn release(self, released: &mut Released) {
        let guards = match self {
            Self::One(guard) => vec![guard],
            Self::All(guard) => guard.into_guards(),
        };
        let release = |guard: LockGuard| {
            let key = guard.key().clone();
            Box::pin(async move { (key, guard.release().await) })
        };
        let mut releases: Vec<_> = guards.into_iter().map(release).collect();
        poll_fn(|context| {
            releases.retain_mut(|release| {
                let Poll::Ready((key, outcome)) = release.as_mut().poll(context) else {
                    return true;
                };
                match outcome {
                    Ok(ReleaseOutcome::Released) => {}
                    Ok(ReleaseOutcome::NotHeld(_)) => {
                        released.lost.get_or_insert_with(|| loss_of(&key, Loss::NotHeld));
                    }
                    Err(error) => {
                        released.failure.get_or_insert_with(|| error.to_string());
                    }
                }
                false
            });
            if releases.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Leaves the locks to their ttl.
    pub(crate) fn keep(self) {
        match self {
            Self::One(guard) => guard.keep(),
            Self::All(guard) => guard.into_guards().into_iter().for_each(LockGuard::keep),
        }
    }

    /// Returns what the command finds in its environment; a variable without a value is removed
    /// from it.
    pub(crate) fn variables(&self) -> Result<Vec<(String, Option<String>)>, Error> {
        let leases = match self {
            Self::One(guard) => {
                return variables(guard, "").map(|mut variables| {
                    variables.push(("SYNCGUARD_KEYS".to_owned(), None));
                    variables
                });
            }
            Self::All(guard) => guard.keys().map(|key| guard.lease_of(key)),
        };
        let mut all = NAMES.map(|name| (name.to_owned(), None)).to_vec();
        all.push(("SYNCGUARD_KEYS".to_owned(), Some(leases.len().to_string())));
        for (lease, number) in leases.zip(1..) {
            all.extend(variables(lease?, &format!("_{number}"))?);
        }
        Ok(all)
    }
}

fn loss_of(key: &LockKey, loss: Loss) -> String {
    format!("key {key}: {loss}")
}

/// `SYNCGUARD_FENCE` is the fence as stores keep it. Arithmetic in a shell takes its leading zeros for
/// the prefix of an octal number, so the plain number has a variable of its own.
const NAMES: [&str; 4] =
    ["SYNCGUARD_KEY", "SYNCGUARD_FENCE", "SYNCGUARD_FENCE_NUMBER", "SYNCGUARD_LOCK_ID"];

fn variables(lease: &Lease, suffix: &str) -> Result<Vec<(String, Option<String>)>, Error> {
    let (fence, lock_id): (_, LockId) = (lease.fence()?, lease.lock_id());
    let values = [
        lease.key().as_str().to_owned(),
        fence.to_string(),
        fence.number().to_string(),
        lock_id.as_str().to_owned(),
    ];
    let named = NAMES.iter().zip(values);
    Ok(named.map(|(name, value)| (format!("{name}{suffix}"), Some(value))).collect())
}
