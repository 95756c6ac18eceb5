use std::sync::{Arc, Weak};

use tokio::sync::Mutex;

/// A value that is expensive to create, shared while anything uses it and dropped after the last
/// use.
///
/// A plain static would never be dropped, and would leave its process or its directory behind.
#[derive(Debug)]
pub struct WeakCell<T>(Mutex<Weak<T>>);

impl<T> WeakCell<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::const_new(Weak::new()))
    }

    /// Returns the value in use, or creates one. Concurrent callers wait for it.
    pub(crate) async fn get_or_try_init<E>(
        &self,
        create: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<Arc<T>, E>
    where
        T: Send + Sync,
    {
        let mut weak = self.0.lock().await;
        if let Some(value) = weak.upgrade() {
            return Ok(value);
        }
        let value = Arc::new(create.await?);
        *weak = Arc::downgrade(&value);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::WeakCell;

    #[tokio::test]
    async fn a_value_in_use_is_not_created_again() {
        let cell = WeakCell::new();
        let first = cell.get_or_try_init(async { Ok::<_, Infallible>(1) }).await.unwrap();
        let second = cell.get_or_try_init(async { Ok::<_, Infallible>(2) }).await;
        assert_eq!((*first, *second.unwrap()), (1, 1));
    }

    #[tokio::test]
    async fn an_unused_value_is_dropped_and_created_again() {
        let cell = WeakCell::new();
        drop(cell.get_or_try_init(async { Ok::<_, Infallible>(1) }).await);
        let second = cell.get_or_try_init(async { Ok::<_, Infallible>(2) }).await;
        assert_eq!(*second.unwrap(), 2);
    }
}
