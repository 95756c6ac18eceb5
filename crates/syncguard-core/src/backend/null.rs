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
use crate::{Error, ErrorKind, Fence, LockId, LockKey, Timestamp, Ttl};

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
            Error::new(ErrorKind::Internal)
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
        Ok(vec![Finding::unsafe_setting("null backend", "every lock is granted to every caller")])
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
    use crate::{ErrorKind, Fence, LockManager, backend::Mode};

    #[tokio::test]
    async fn every_caller_is_granted_the_lock_under_its_own_fence() {
        let locks = LockManager::new(NullBackend::default());
        let mut fences = Vec::new();
        let mut guards = Vec::new();
        for mode in [Mode::Exclusive, Mode::Exclusive, Mode::SHARED] {
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
    async fn its_capabilities_and_its_check_report_that_nothing_is_coordinated() {
        let locks = LockManager::new(NullBackend::default());
        assert!(!locks.capabilities().exclusive);
        assert_eq!(locks.check().await.unwrap()[0].severity, crate::backend::Severity::Unsafe);
        assert!(crate::backend::Capabilities::new().exclusive, "the default is exclusive");
    }

    #[tokio::test]
    async fn no_fence_is_granted_beyond_the_limit() {
        let backend = NullBackend::default();
        backend.fences.store(Fence::LIMIT.number(), Ordering::Relaxed);
        let error = LockManager::new(backend).lock("key").try_acquire().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
    }
}
