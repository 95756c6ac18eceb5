//! State per runtime.

use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::runtime::{Handle, Id};
use tokio_util::task::AbortOnDropHandle;

use crate::error::Failure;

/// One value for each runtime that uses the backend.
///
/// **Invariant:** the tasks behind a value run on the runtime whose callers use it. So a runtime
/// that has ended, or that is alive but not driven, blocks no caller on another one.
pub(crate) struct PerRuntime<T>(Mutex<HashMap<Id, Entry<T>>>);

struct Entry<T> {
    value: Arc<T>,
    /// Never completes, so it is finished only when its runtime has ended. The runtime's id may be
    /// reused then.
    runtime: AbortOnDropHandle<()>,
}

impl<T> Default for PerRuntime<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Default> PerRuntime<T> {
    /// Returns the value of the caller's runtime.
    ///
    /// # Errors
    ///
    /// [`Failure::NoRuntime`] outside of a runtime.
    pub(crate) fn current(&self) -> Result<Arc<T>, Failure> {
        let runtime = Handle::try_current().map_err(|_| Failure::NoRuntime)?;
        // No code panics while the mutex is held.
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get(&runtime.id())
            && !entry.runtime.is_finished()
        {
            return Ok(entry.value.clone());
        }
        entries.retain(|_, entry| !entry.runtime.is_finished());
        let value = Arc::<T>::default();
        let entry = Entry {
            value: value.clone(),
            runtime: AbortOnDropHandle::new(runtime.spawn(pending())),
        };
        entries.insert(runtime.id(), entry);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::runtime::{Builder, Runtime};

    use super::PerRuntime;

    fn runtime() -> Runtime {
        Builder::new_current_thread().build().unwrap()
    }

    #[test]
    fn each_runtime_has_its_own_value_until_it_ends() {
        let (values, first, second) = (PerRuntime::<u8>::default(), runtime(), runtime());
        let current = |runtime: &Runtime| runtime.block_on(async { values.current().unwrap() });
        let (ours, theirs) = (current(&first), current(&second));
        assert!(Arc::ptr_eq(&ours, &current(&first)) && !Arc::ptr_eq(&ours, &theirs));
        drop(first);
        let third = runtime();
        assert!(!Arc::ptr_eq(&ours, &current(&third)));
        assert_eq!(values.0.lock().unwrap().len(), 2, "what belonged to the first is dropped");
        assert!(values.current().is_err(), "there is no runtime here");
    }
}
