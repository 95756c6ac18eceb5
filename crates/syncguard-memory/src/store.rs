//! The state that all operations share.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use syncguard_core::{BootInstant, Clock, Timestamp};

use crate::slots::Slots;

/// The slots and the clock, shared by all operations.
#[derive(Debug)]
pub(crate) struct Store {
    slots: Mutex<Slots>,
    clock: Arc<dyn Clock>,
    /// When the store was created, on `clock`.
    start: BootInstant,
    /// The same instant on the wall clock, since the Unix epoch.
    epoch: Duration,
}

impl Store {
    /// Creates a store without locks.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { slots: Mutex::default(), start: clock.now(), clock, epoch }
    }

    pub(crate) fn now(&self) -> Timestamp {
        let now = self.epoch + self.clock.now().since(self.start);
        Timestamp::from_unix_millis(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Slots> {
        // Nothing panics while the slots are locked, so they are consistent even if poisoned.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn is_locked(&self) -> bool {
        self.slots.try_lock().is_err()
    }
}
