//! Fences through the whole lock API.

use syncguard_core::{ErrorKind, Operation, RunOutcome};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    LONG, World, drained, error_of,
    time::{millis, secs},
};

#[tokio::test(start_paused = true)]
async fn calls_that_do_not_get_the_lock_use_up_no_fence() {
    let world = World::new();
    let (locks, rivals) = (world.locks(), world.locks());
    let held = world.hold_elsewhere("k", LONG).await;
    let lock = || locks.lock("k").wait(secs(2));
    for _ in 0..20 {
        assert!(lock().try_acquire().await.unwrap().acquired().is_none());
        let skipped = lock().try_run(async |_| ()).await.unwrap();
        assert!(matches!(skipped, RunOutcome::Skipped(Some(_))), "{skipped:?}");
        let (ours, theirs) = tokio::join!(lock().acquire(), rivals.lock("k").acquire());
        error_of(ours, ErrorKind::AcquisitionTimeout);
        error_of(theirs, ErrorKind::AcquisitionTimeout);
        error_of(lock().run(async |_| ()).await, ErrorKind::AcquisitionTimeout);
        assert!(timeout(millis(300), lock().acquire()).await.is_err(), "dropped");
        let token = CancellationToken::new();
        let cancelled = lock().cancel_on(token.clone()).acquire();
        let (cancelled, ()) = tokio::join!(cancelled, async {
            tokio::time::sleep(millis(300)).await;
            token.cancel();
        });
        error_of(cancelled, ErrorKind::Aborted);
    }
    drained(&locks).await;
    assert!(world.sent(Operation::Acquire).len() > 200, "requests were sent");
    world.release_elsewhere(&held).await;
    let guard = lock().try_acquire().await.unwrap().acquired().unwrap();
    assert_eq!(guard.fence().unwrap().number(), 2);
}
