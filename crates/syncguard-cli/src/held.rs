//! The lock, or the locks, under which a command runs.

use std::time::Duration;

use syncguard::{Error, Lease, LockAllGuard, LockGuard, LockId, Loss, ReleaseOutcome};

/// What is held: one lock, or several that are lost together.
#[derive(Debug)]
pub(crate) enum Held {
    One(LockGuard),
    All(LockAllGuard),
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

    /// Releases the locks. Returns whether all of them were still held.
    pub(crate) async fn release(self) -> Result<bool, Error> {
        let is_released = |outcome: &ReleaseOutcome| *outcome == ReleaseOutcome::Released;
        match self {
            Self::One(guard) => guard.release().await.map(|outcome| is_released(&outcome)),
            Self::All(guard) => {
                let outcomes = guard.release().await?;
                Ok(outcomes.iter().all(|(_, outcome)| is_released(outcome)))
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
