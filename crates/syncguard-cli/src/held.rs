//! The lock, or the locks, under which a command runs.

use std::{error::Error as _, time::Duration};

use syncguard::{Error, ErrorKind, Lease, LockAllGuard, LockGuard, LockId, Loss, ReleaseOutcome};

use crate::report::chain;

/// What is held: one lock, or several that are lost together.
#[derive(Debug)]
pub(crate) enum Held {
    One(LockGuard),
    All(LockAllGuard),
}

/// How the release of what was held ended. By default, nothing is known of it.
#[derive(Debug, Default)]
pub(crate) struct Released {
    /// The store no longer had one of the locks.
    pub(crate) was_lost: bool,
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

    /// Returns how a lock was lost.
    pub(crate) fn loss(&self) -> Option<Loss> {
        match self {
            Self::One(guard) => guard.loss(),
            Self::All(guard) => guard.loss().map(|(_, loss)| loss),
        }
    }

    /// Completes as soon as a lock is lost.
    pub(crate) async fn lost(&self) {
        match self {
            Self::One(guard) => guard.lost().await,
            Self::All(guard) => guard.lost().await,
        }
    }

    /// Releases the locks.
    pub(crate) async fn release(self) -> Released {
        let released = match self {
            Self::One(guard) => guard.release().await.map(|outcome| vec![outcome]),
            Self::All(guard) => {
                let released = guard.release().await;
                released.map(|all| all.into_iter().map(|(_, outcome)| outcome).collect())
            }
        };
        match released {
            Ok(outcomes) => {
                let was_lost = outcomes.iter().any(|outcome| *outcome != ReleaseOutcome::Released);
                Released { was_lost, failure: None }
            }
            Err(error) => {
                let was_lost = error.kind() == ErrorKind::Lost;
                // Behind a loss is the error of the lock that was not released.
                let failed = error.source().filter(|_| was_lost);
                Released { was_lost, failure: Some(failed.map_or_else(|| chain(&error), chain)) }
            }
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

const NAMES: [&str; 3] = ["SYNCGUARD_KEY", "SYNCGUARD_FENCE", "SYNCGUARD_LOCK_ID"];

fn variables(lease: &Lease, suffix: &str) -> Result<Vec<(String, Option<String>)>, Error> {
    let lock_id: LockId = lease.lock_id();
    let values =
        [lease.key().as_str().to_owned(), lease.fence()?.to_string(), lock_id.as_str().to_owned()];
    let named = NAMES.iter().zip(values);
    Ok(named.map(|(name, value)| (format!("{name}{suffix}"), Some(value))).collect())
}
