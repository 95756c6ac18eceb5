//! A server that stops, crashes, ends its connections, or pauses.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use syncguard_core::{
    LockManager, Operation,
    backend::{AcquireOutcome, AcquireRequest, LockBackend},
};
use tokio::{task::JoinSet, time::sleep};

use super::{Foreign, Tables};
use crate::{
    operations::{LONG, abandon_with_retries, ask, eventually, granted, is_locked, lock_of, soon},
    server::Server,
};

/// Tasks that acquire, extend and release one lock until they are stopped.
struct Load {
    stop: Arc<AtomicBool>,
    /// The highest fence that was granted.
    last: Arc<AtomicU64>,
    tasks: JoinSet<()>,
}

impl Load {
    fn start(backend: &(impl LockBackend + Clone)) -> Self {
        let (stop, last) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            let (backend, stop, last) = (backend.clone(), stop.clone(), last.clone());
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let request = ask("job", Duration::from_millis(50));
                    match backend.acquire(&request).await {
                        Ok(AcquireOutcome::Granted(grant)) => {
                            let before = last.fetch_max(grant.fence.number(), Ordering::Relaxed);
                            assert!(grant.fence.number() > before, "{grant:?} after {before}");
                            if !extend_and_release(&backend, &request).await {
                                abandon_with_retries(&backend, &request).await;
                            }
                        }
                        Ok(_) => tokio::task::yield_now().await,
                        Err(error) => {
                            assert!(error.is_retryable(), "{error:?}");
                            abandon_with_retries(&backend, &request).await;
                        }
                    }
                }
            });
        }
        Self { stop, last, tasks }
    }

    fn grants(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// Waits for one more grant.
    async fn until_next_grant(&self) {
        let before = self.grants();
        eventually("a task is granted the lock", async || self.grants() > before).await;
    }

    async fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

/// Extends a grant and releases it, and returns whether both were answered.
async fn extend_and_release(backend: &impl LockBackend, request: &AcquireRequest) -> bool {
    let lock = lock_of(request);
    let extended = backend.extend(&lock, request.ttl).await.is_ok();
    extended && backend.release(&lock).await.is_ok()
}

/// No fence goes back over ten kills under load.
pub async fn no_fence_goes_back_over_ten_kills_under_load<T: Tables>() {
    let server = Server::<T::Program>::start().await.unwrap();
    let backend = T::fresh().connect(&server.url()).await;
    let load = Load::start(&backend);
    for _ in 0..10 {
        load.until_next_grant().await;
        server.kill().unwrap();
        server.restart().await.unwrap();
    }
    load.until_next_grant().await;
    load.end().await;
}

/// Soon after a restart, locks are granted again.
pub async fn soon_after_a_restart_locks_are_granted_again<T: Tables>() {
    let server = Server::<T::Program>::start().await.unwrap();
    let locks = LockManager::new(T::fresh().connect(&server.url()).await);
    for round in 0..3 {
        let wait = || locks.lock(format!("job {round}")).wait(LONG).acquire();
        // On some servers, a crash may undo this release, so the key is a different one.
        drop(locks.lock("warm-up").try_acquire().await.unwrap());
        server.kill().unwrap();
        let waiting = tokio::spawn(wait());
        server.restart().await.unwrap();
        let others = async || drop(T::Foreign::open(&server.url()).await);
        drop(soon("the waiter is", waiting, others).await.unwrap().unwrap());
    }
}

/// Soon after losing its connections, a client is granted locks again.
///
/// `kill` ends all connections of the backend, and returns whether there were any.
pub async fn soon_after_losing_its_connections_a_client_is_granted_locks_again<T: Tables>(
    mut kill: impl AsyncFnMut(&mut T::Foreign) -> bool,
) {
    let server = Server::<T::Program>::start().await.unwrap();
    let backend = T::fresh().connect(&server.url()).await;
    let mut foreign = T::Foreign::open(&server.url()).await;
    let load = Load::start(&backend);
    for _ in 0..20 {
        load.until_next_grant().await;
        assert!(kill(&mut foreign).await, "connections were ended");
        let others = async || drop(T::Foreign::open(&server.url()).await);
        soon("the client is", load.until_next_grant(), others).await;
    }
    load.end().await;
}

/// The errors of pruning and of setting up the tables name their operation.
pub async fn errors_of_pruning_and_of_the_schema_name_their_operation<T: Tables>() {
    let (server, tables) = (Server::<T::Program>::start().await.unwrap(), T::fresh());
    let config = tables.config(&server.url(), &[]);
    let backend = T::open(config.clone()).await.unwrap();
    server.kill().unwrap();
    let error = T::prune(&backend, Duration::ZERO).await.unwrap_err();
    assert_eq!(error.operation(), Some(Operation::Prune), "{error}");
    let error = T::setup_schema(&config).await.unwrap_err();
    assert_eq!(error.operation(), Some(Operation::SetUpSchema), "{error}");
}

/// A holder whose server was paused past the ttl has lost the lock.
pub async fn a_holder_whose_server_was_paused_past_the_ttl_has_lost_the_lock<T: Tables>() {
    let (server, tables) = (Server::<T::Program>::start().await.unwrap(), T::fresh());
    let (mine, theirs) = (
        LockManager::new(tables.connect(&server.url()).await),
        tables.connect(&server.url()).await,
    );
    let guard = mine.lock("job").ttl(Duration::from_millis(500)).acquire().await.unwrap();
    let fence = guard.fence().unwrap();
    server.pause().unwrap();
    guard.lost().await;
    assert!(!guard.is_valid(), "it knows by its own clock");
    sleep(Duration::from_millis(1_500)).await;
    server.resume().unwrap();
    let next = granted(&theirs, &ask("job", LONG)).await.fence;
    assert!(next > fence, "{next} after {fence}");
    guard.release().await.ok();
    assert!(is_locked(&theirs, "job").await, "its release leaves the new lock alone");
}
