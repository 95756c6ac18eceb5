//! Guards that outlive runtimes, and callers outside of all runtimes. The tests run in real time,
//! because a runtime that is shut down or not driven cannot advance a paused clock.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, mpsc},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use syncguard_core::{
    Error, ErrorKind, LockGuard, LockManager, LockManagerBuilder, Operation, ReleaseOutcome, Renew,
    Retry, ShutdownOutcome, backend::LockBackend,
};
use syncguard_memory::MemoryBackend;
use tokio::{
    runtime::{Builder, Runtime},
    task::yield_now,
    time::{sleep, timeout},
};

use super::{
    drained, error_of, key,
    store::RecordingStore,
    time::{millis, secs},
};

type Store = RecordingStore<MemoryBackend>;

fn single() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn store() -> Store {
    RecordingStore::new(MemoryBackend::new())
}

/// Sends a message for each wake-up.
struct Woken(mpsc::Sender<()>);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(());
    }
}

/// Drives a future on this thread, outside every runtime.
fn drive<F: Future>(future: F) -> F::Output {
    assert!(tokio::runtime::Handle::try_current().is_err());
    let (sender, woken) = mpsc::channel();
    let waker = Waker::from(Arc::new(Woken(sender)));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => woken.recv().unwrap(),
        }
    }
}

fn is_locked(store: &Store) -> bool {
    drive(store.is_locked(&key("k"))).unwrap()
}

/// Returns a builder whose locks record the reported errors.
fn reporting(store: &Store) -> (LockManagerBuilder, Arc<Mutex<Vec<ErrorKind>>>) {
    let reports = Arc::new(Mutex::new(Vec::new()));
    let recorded = reports.clone();
    let record = move |error: &Error| recorded.lock().unwrap().push(error.kind());
    (LockManager::builder(store.clone()).on_release_error(record), reports)
}

/// Acquires a lock on a runtime that is shut down before this returns.
fn orphaned(locks: &LockManager, runtime: fn() -> Runtime, renew: Renew) -> LockGuard {
    runtime().block_on(locks.lock("k").renew(renew).acquire()).unwrap()
}

#[test]
fn a_guard_whose_runtime_was_shut_down_is_used_and_released_on_another() {
    for runtime in [single, multi] {
        let store = store();
        let locks = LockManager::new(store.clone());
        let guard = orphaned(&locks, runtime, Renew::Never);
        store.delay(Operation::Extend, millis(5));
        store.delay(Operation::Release, millis(5));
        single().block_on(async {
            let lease = guard.lease();
            let loss = tokio::spawn(async move { lease.lost().await });
            guard.extend(secs(60)).await.unwrap();
            assert!(guard.remaining() > secs(40) && !loss.is_finished());
            assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::Released);
            loss.await.unwrap();
        });
        assert!(!is_locked(&store));
    }
}

#[test]
fn keys_of_a_set_are_renewed_outside_every_runtime_while_a_later_one_is_waited_for() {
    let (store, background) = (store(), multi());
    let locks = LockManager::builder(store.clone()).runtime(background.handle().clone()).build();
    let held = drive(locks.lock("b").acquire()).unwrap();
    background.spawn(async move {
        while store.sent(Operation::Extend).len() < 3 {
            sleep(millis(5)).await;
        }
        held.release().await.unwrap();
    });
    let set = locks.lock_all(["a", "b"]).renew(Renew::Every(millis(5))).wait(secs(600));
    let guard = drive(set.acquire()).unwrap();
    assert!(guard.is_valid());
    let released = drive(guard.release()).unwrap();
    assert!(released.iter().all(|(_, outcome)| *outcome == ReleaseOutcome::Released));
}

#[test]
fn a_lease_whose_runtime_was_shut_down_is_renewed_on_the_one_that_uses_it() {
    for runtime in [single, multi] {
        let store = store();
        let locks = LockManager::new(store.clone());
        let guard = orphaned(&locks, runtime, Renew::Every(millis(5)));
        let before = store.sent(Operation::Extend).len();
        single().block_on(async {
            assert!(guard.is_valid());
            while store.sent(Operation::Extend).len() < before + 3 {
                sleep(millis(1)).await;
            }
        });
    }
}

/// Acquires a lock on a runtime that is not driven any more when this returns, while a renewal of the
/// lock is in flight there. Later extends are answered immediately.
fn with_a_stuck_renewal(store: &Store, idle: &Runtime, min_hold: Duration) -> LockGuard {
    let locks = LockManager::builder(store.clone()).request_timeout(millis(50)).build();
    store.delay(Operation::Extend, secs(600));
    let guard = idle.block_on(async {
        let lock = locks.lock("k").renew(Renew::Every(millis(1))).min_hold(min_hold);
        let guard = lock.acquire().await.unwrap();
        while store.in_flight(Operation::Extend) == 0 {
            sleep(millis(1)).await;
        }
        guard
    });
    store.delay(Operation::Extend, Duration::ZERO);
    guard
}

#[test]
fn a_release_within_min_hold_waits_a_limited_time_for_a_renewal_on_a_runtime_that_is_not_driven() {
    let (store, idle) = (store(), single());
    let guard = with_a_stuck_renewal(&store, &idle, secs(10));
    let release = async { timeout(secs(60), guard.release()).await.expect("it ends") };
    assert_eq!(single().block_on(release).unwrap(), ReleaseOutcome::Released);
}

#[test]
fn an_extend_waits_a_limited_time_for_a_renewal_on_a_runtime_that_is_not_driven() {
    let (store, idle) = (store(), single());
    let guard = with_a_stuck_renewal(&store, &idle, Duration::ZERO);
    let sent = store.sent(Operation::Extend).len();
    let error = error_of(single().block_on(guard.extend(secs(60))), ErrorKind::NetworkTimeout);
    assert!(error.is_retryable() && !error.may_have_applied(), "{error}");
    assert_eq!(error.lock_id(), Some(guard.lock_id()));
    assert_eq!(store.sent(Operation::Extend).len(), sent);
    assert!(guard.is_valid());
    // Once it is driven again, the renewal ends with its own time limit.
    idle.block_on(guard.extend(secs(60))).unwrap();
}

#[test]
fn a_guard_whose_runtime_was_shut_down_is_released_by_a_drop_on_another() {
    for runtime in [single, multi] {
        let store = store();
        let (builder, reports) = reporting(&store);
        let locks = builder.build();
        let guard = orphaned(&locks, runtime, Renew::Auto);
        single().block_on(async {
            drop(guard);
            drained(&locks).await;
        });
        assert!(!is_locked(&store));
        assert_eq!(*reports.lock().unwrap(), []);
    }
}

#[test]
fn a_release_moves_to_the_lock_s_own_runtime_when_that_of_the_drop_is_shut_down() {
    let (home, store) = (single(), store());
    let (builder, reports) = reporting(&store);
    let locks = builder.build();
    let guard = home.block_on(locks.lock("k").acquire()).unwrap();
    store.delay(Operation::Release, millis(10));
    single().block_on(async {
        drop(guard);
        while store.in_flight(Operation::Release) == 0 {
            yield_now().await;
        }
    });
    assert!(is_locked(&store), "its runtime was shut down before the release reached the store");
    home.block_on(drained(&locks));
    assert!(!is_locked(&store));
    assert_eq!(*reports.lock().unwrap(), []);
}

#[test]
fn a_guard_without_a_live_runtime_is_reported_and_left_to_its_ttl() {
    let store = store();
    let (builder, reports) = reporting(&store);
    let guard = orphaned(&builder.build(), single, Renew::Never);
    drop(guard);
    assert!(is_locked(&store));
    assert_eq!(*reports.lock().unwrap(), [ErrorKind::Aborted]);
}

/// The exception that the documentation of the guard mentions.
#[test]
fn a_guard_that_is_dropped_while_nothing_drives_its_runtime_is_reported_when_that_is_shut_down() {
    let (idle, store) = (single(), store());
    let (builder, reports) = reporting(&store);
    let guard = idle.block_on(builder.build().lock("k").acquire()).unwrap();
    drop(guard);
    assert!(is_locked(&store) && reports.lock().unwrap().is_empty());
    drop(idle);
    assert!(is_locked(&store));
    assert_eq!(*reports.lock().unwrap(), [ErrorKind::Aborted]);
}

#[test]
fn a_configured_runtime_releases_a_guard_that_is_dropped_while_nothing_drives_its_own() {
    let (background, idle, store) = (multi(), single(), store());
    let (builder, reports) = reporting(&store);
    let locks = builder.runtime(background.handle().clone()).build();
    let guard = idle.block_on(locks.lock("k").acquire()).unwrap();
    drop(guard);
    drive(drained(&locks));
    assert!(!is_locked(&store));
    assert_eq!(*reports.lock().unwrap(), []);
}

#[test]
fn a_configured_runtime_releases_a_guard_that_is_dropped_on_one_that_nothing_drives_again() {
    let (background, idle, store) = (multi(), single(), store());
    let locks = LockManager::builder(store.clone()).runtime(background.handle().clone()).build();
    let guard = drive(locks.lock("k").acquire()).unwrap();
    idle.block_on(async { drop(guard) });
    assert_eq!(
        drive(locks.shutdown(secs(30))),
        ShutdownOutcome::Drained,
        "the release did not start"
    );
    assert!(!is_locked(&store));
}

#[test]
fn with_a_configured_runtime_locks_are_used_outside_every_runtime() {
    let (background, store) = (multi(), store());
    store.delay(Operation::Acquire, millis(5));
    store.delay(Operation::Release, millis(5));
    let locks = LockManager::builder(store.clone()).runtime(background.handle().clone()).build();
    let guard = drive(locks.lock("k").acquire()).unwrap();
    let contended =
        drive(locks.lock("k").retry(Retry::fixed(millis(1)).limit(3)).wait(secs(60)).acquire());
    error_of(contended, ErrorKind::AcquisitionTimeout);
    let number = drive(locks.lock("other").run(async |lease| lease.fence().unwrap().number()));
    assert_eq!(number.unwrap(), 1);
    drive(guard.extend(secs(2))).unwrap();
    drive(guard.lost());
    assert!(!guard.is_valid());
    drop(guard);
    let guard = drive(locks.lock("k").wait(secs(60)).acquire()).unwrap();
    assert_eq!(drive(guard.release()).unwrap(), ReleaseOutcome::Released);
    assert!(!is_locked(&store));
}

#[test]
fn without_any_runtime_an_acquire_returns_a_typed_error_and_a_lookup_succeeds() {
    let locks = LockManager::new(store());
    let error = error_of(drive(locks.lock("k").acquire()), ErrorKind::Internal);
    assert!(!error.may_have_applied() && error.to_string().contains("no runtime"), "{error}");
    assert!(!drive(locks.is_locked("k")).unwrap());
}

#[test]
fn requests_outside_every_runtime_use_the_one_on_which_the_lock_was_acquired() {
    let (home, store) = (multi(), store());
    let locks = LockManager::new(store.clone());
    let guard = home.block_on(locks.lock("k").acquire()).unwrap();
    store.delay(Operation::Release, millis(5));
    assert_eq!(drive(guard.release()).unwrap(), ReleaseOutcome::Released);
    assert!(!is_locked(&store));
}

#[test]
fn if_the_configured_runtime_was_shut_down_the_runtime_of_the_caller_is_used() {
    for runtime in [single, multi] {
        let (background, store) = (runtime(), store());
        let locks =
            LockManager::builder(store.clone()).runtime(background.handle().clone()).build();
        let guard = drive(locks.lock("k").acquire()).unwrap();
        drop(background);
        let error = error_of(drive(locks.lock("k").acquire()), ErrorKind::Internal);
        assert!(error.to_string().contains("was shut down"), "{error}");
        single().block_on(async {
            guard.extend(secs(30)).await.unwrap();
            drop(guard);
            let guard = locks.lock("k").acquire().await.unwrap();
            assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::Released);
        });
    }
}

#[test]
fn a_lease_whose_runtime_was_shut_down_is_lost_in_time_outside_every_runtime() {
    let locks = LockManager::new(store());
    let guard = single().block_on(locks.lock("k").ttl(millis(200)).acquire()).unwrap();
    drive(guard.lost());
    assert!(!guard.is_valid());
    error_of(drive(guard.extend(secs(1))), ErrorKind::Lost);
}

#[test]
fn a_loss_that_is_awaited_while_a_runtime_is_shut_down_is_noticed_on_another() {
    let (first, second) = (single(), single());
    let lock = LockManager::new(store()).lock("k").ttl(secs(2));
    let guard = first.block_on(lock.acquire()).unwrap();
    let mut lost = pin!(guard.lost());
    let is_lost = first.block_on(poll_fn(|context| Poll::Ready(lost.as_mut().poll(context))));
    assert!(is_lost.is_pending());
    drop(first);
    second.block_on(lost);
    assert!(!guard.is_valid());
}

#[test]
fn a_guard_whose_runtime_was_shut_down_is_released_outside_every_runtime() {
    let store = store();
    let locks = LockManager::new(store.clone());
    let guard = orphaned(&locks, single, Renew::Never);
    assert_eq!(drive(guard.release()).unwrap(), ReleaseOutcome::Released);
    assert!(!is_locked(&store));
}
