use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use super::{
    AcquireOutcome, AcquireRequest, Capabilities, ClockAuthority, ExtendOutcome, Fencing, Finding,
    Grant, LockBackend, LockQuery, LockRecord, LockRef, ReleaseOutcome,
};
use crate::{Error, ErrorKind, Fence, LockId, LockKey, Operation, Timestamp, Ttl};

/// Grants every lock to every caller and coordinates nothing, as its
/// [capabilities](Capabilities::exclusive) report. For tests of code that locks, and for disabling
/// locks if only one process runs. Cheap to clone; the clones share one fence counter.
///
/// Every required method works without I/O. An acquire returns a grant under a fence that this
/// backend has not granted before, an extend and a release succeed, a lookup returns `None`, and a
/// check reports that nothing is coordinated. Once the fences are used up, an acquire returns an
/// error, as with any other backend. The fences restart with the process: do not check them at a
/// resource that outlives it.
///
/// # Examples
///
/// ```
/// use syncguard_core::{LockManager, NullBackend};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), syncguard_core::Error> {
/// let locks = LockManager::new(NullBackend::default());
/// let one = locks.lock("key").acquire().await?;
/// let other = locks.lock("key").acquire().await?;
/// assert!(one.fence()? < other.fence()?);
/// assert!(!locks.capabilities().exclusive);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct NullBackend {
    /// The fence that was granted last.
    fences: Arc<AtomicU64>,
}

impl LockBackend for NullBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new()
            .without_exclusion()
            .with_fencing(Fencing::Process)
            .with_clock(ClockAuthority::Client)
            .with_grace(std::time::Duration::ZERO)
            .with_shared()
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        // Only this counter orders the fences; nothing else depends on its memory ordering.
        let last = self.fences.fetch_add(1, Ordering::Relaxed);
        let fence = Fence::new(last).ok().and_then(Fence::next).ok_or_else(|| {
            Error::new(ErrorKind::Internal, Operation::Acquire)
                .with_key(&request.key)
                .with_lock_id(request.lock_id)
                .with_detail("the fence counter is at its limit")
                .not_applied()
        })?;
        Ok(AcquireOutcome::Granted(Grant { fence, expires_at: now().after(request.ttl) }))
    }

    async fn extend(&self, _lock: &LockRef, ttl: Ttl) -> Result<ExtendOutcome, Error> {
        Ok(ExtendOutcome::Extended { expires_at: now().after(ttl) })
    }

    async fn release(&self, _lock: &LockRef) -> Result<ReleaseOutcome, Error> {
        Ok(ReleaseOutcome::Released)
    }

    async fn lookup(&self, _query: &LockQuery) -> Result<Option<LockRecord>, Error> {
        Ok(None)
    }

    async fn abandon(&self, _lock_id: LockId, _key: &LockKey) -> Result<(), Error> {
        Ok(())
    }

    async fn check(&self) -> Result<Vec<Finding>, Error> {
        Ok(vec![Finding::unsafe_setting("null backend", "every lock is granted to everybody")])
    }
}

fn now() -> Timestamp {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp::from_unix_millis(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::Ordering, time::Duration};

    use super::NullBackend;
    use crate::{ErrorKind, Fence, LockManager, Mode};

    #[tokio::test]
    async fn everybody_gets_the_lock_each_under_a_fence_of_its_own() {
        let locks = LockManager::new(NullBackend::default());
        let mut fences = Vec::new();
        let mut guards = Vec::new();
        for mode in [Mode::Exclusive, Mode::Exclusive, Mode::Shared] {
            let guard = locks.lock("key").mode(mode).acquire().await.unwrap();
            fences.push(guard.fence().unwrap().number());
            guards.push(guard);
        }
        assert_eq!(fences, [1, 2, 3]);
        guards[0].extend(Duration::from_secs(60)).await.unwrap();
        assert!(!locks.is_locked("key").await.unwrap());
        for guard in guards {
            guard.release().await.unwrap();
        }
    }

    #[tokio::test]
    async fn it_says_that_it_coordinates_nothing() {
        let locks = LockManager::new(NullBackend::default());
        assert!(!locks.capabilities().exclusive);
        assert_eq!(locks.check().await.unwrap()[0].severity, crate::Severity::Unsafe);
        assert!(crate::Capabilities::new().exclusive, "others do");
    }

    #[tokio::test]
    async fn fences_end_at_their_limit() {
        let backend = NullBackend::default();
        backend.fences.store(Fence::LIMIT.number(), Ordering::Relaxed);
        let refused = LockManager::new(backend).lock("key").try_acquire().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Internal);
    }
}
