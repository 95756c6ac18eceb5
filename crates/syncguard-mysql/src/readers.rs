//! The grants in shared mode that this backend has made.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use syncguard_core::{LockId, LockKey};

/// How many grants are remembered at most, so that those that are never released take no memory
/// without limit.
const MAX_READERS: usize = 65_536;

/// The keys of the grants in shared mode that this backend has made.
///
/// It is a hint, which saves round trips: an extend and a release know only an id, and the id does
/// not show the mode of its grant. An id that is not found here may be that of a shared grant that
/// another process has made.
#[derive(Default)]
pub(crate) struct Readers(Mutex<HashMap<LockId, LockKey>>);

impl Readers {
    pub(crate) fn insert(&self, lock_id: LockId, key: LockKey) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() < MAX_READERS {
            keys.insert(lock_id, key);
        }
    }

    pub(crate) fn key(&self, lock_id: LockId) -> Option<LockKey> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&lock_id).cloned()
    }

    pub(crate) fn remove(&self, lock_id: LockId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&lock_id);
    }
}
