use std::sync::{Arc, Weak};

use tokio::sync::Mutex;

/// Something that is costly to make, kept for as long as anybody uses it.
///
/// A plain static would never be dropped, and would leave its process or its directory behind.
#[derive(Debug)]
pub struct Kept<T>(Mutex<Weak<T>>);

impl<T> Kept<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::const_new(Weak::new()))
    }

    /// Gives what is in use, or makes it. Callers that come meanwhile wait for it.
    pub(crate) async fn or_make<E>(
        &self,
        make: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<Arc<T>, E>
    where
        T: Send + Sync,
    {
        let mut kept = self.0.lock().await;
        if let Some(kept) = kept.upgrade() {
            return Ok(kept);
        }
        let made = Arc::new(make.await?);
        *kept = Arc::downgrade(&made);
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::Kept;

    #[tokio::test]
    async fn what_is_in_use_is_not_made_again() {
        let kept = Kept::new();
        let first = kept.or_make(async { Ok::<_, Infallible>(1) }).await.unwrap();
        let second = kept.or_make(async { Ok::<_, Infallible>(2) }).await;
        assert_eq!((*first, *second.unwrap()), (1, 1));
    }

    #[tokio::test]
    async fn what_nobody_uses_is_dropped_and_made_again() {
        let kept = Kept::new();
        drop(kept.or_make(async { Ok::<_, Infallible>(1) }).await);
        let second = kept.or_make(async { Ok::<_, Infallible>(2) }).await;
        assert_eq!(*second.unwrap(), 2);
    }
}
