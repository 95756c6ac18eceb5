//! What this process holds and waits for.

use std::time::Duration;

use crate::LockKey;

/// The keys that have a holder or a waiter in this process, for diagnosis.
///
/// It is a snapshot of each key, taken one after the other, and contains nothing of other
/// processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockStats {
    /// The keys, those with the longest wait first.
    pub keys: Vec<KeyStats>,
}

/// The holders and waiters of one key in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyStats {
    /// The key.
    pub key: LockKey,
    /// How many locks of this process hold the key: their release is not finished, and none is
    /// known to be lost.
    pub holders: usize,
    /// How many of the holders are in shared mode.
    pub readers: usize,
    /// How many tasks wait for the key, the one included whose request is with the store.
    pub waiters: usize,
    /// How long the waiter has waited that arrived first; zero without waiters.
    pub longest_wait: Duration,
}

impl LockStats {
    pub(super) fn new(mut keys: Vec<KeyStats>) -> Self {
        keys.sort_by(|a, b| b.longest_wait.cmp(&a.longest_wait).then_with(|| a.key.cmp(&b.key)));
        Self { keys }
    }

    /// Returns the statistics of one key, if it has a holder or a waiter in this process.
    ///
    /// # Examples
    ///
    /// ```
    /// # use syncguard_core::{Error, LockManager, NullBackend};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # let locks = LockManager::new(NullBackend::default());
    /// let guard = locks.lock("report").acquire().await?;
    /// assert_eq!(locks.stats().of(guard.key()).unwrap().holders, 1);
    /// # Ok(()) }
    /// ```
    pub fn of(&self, key: &LockKey) -> Option<&KeyStats> {
        self.keys.iter().find(|stats| stats.key == *key)
    }
}
