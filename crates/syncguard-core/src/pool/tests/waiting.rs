use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use tokio::{
    runtime::Handle,
    task::yield_now,
    time::{Instant, advance},
};

use super::{Log, Opens, ToServer, WAIT, lease_in_task, pool, run_all_tasks};
use crate::pool::{Interrupted, Lease, LeaseError, Pool, Priority, Reply, call};

#[tokio::test(start_paused = true)]
async fn waiters_are_served_by_priority_and_then_in_order() {
    let (pool, _) = pool(2);
    let (one, other) = (
        pool.lease(Priority::Acquire).await.unwrap(),
        pool.lease(Priority::Release).await.unwrap(),
    );
    let log = Log::default();
    let mut waiting = Vec::new();
    for (priority, name) in [
        (Priority::Acquire, "acquire 1"),
        (Priority::Release, "release 1"),
        (Priority::Acquire, "acquire 2"),
        (Priority::Extend, "extend 1"),
        (Priority::Release, "release 2"),
        (Priority::Extend, "extend 2"),
    ] {
        waiting.push(lease_in_task(&pool, priority, name, &log).await);
    }
    one.give_back();
    for waiting in waiting {
        waiting.await.unwrap().unwrap();
    }
    let served = ["extend 1", "extend 2", "release 1", "release 2", "acquire 1", "acquire 2"];
    assert_eq!(*log.lock().unwrap(), served);
    other.give_back();
}

#[tokio::test(start_paused = true)]
async fn acquires_never_have_the_last_connection() {
    let (pool, server) = pool(3);
    let acquires = [
        pool.lease(Priority::Acquire).await.unwrap(),
        pool.lease(Priority::Acquire).await.unwrap(),
    ];
    let log = Log::default();
    let third = lease_in_task(&pool, Priority::Acquire, "acquire", &log).await;
    assert_eq!(server.opened.load(SeqCst), 2, "no connection is opened for it");
    for _ in 0..3 {
        pool.lease(Priority::Extend).await.unwrap().give_back();
    }
    assert!(log.lock().unwrap().is_empty(), "not even while the last one is idle");
    assert_eq!(server.opened.load(SeqCst), 3);
    acquires.into_iter().for_each(Lease::give_back);
    third.await.unwrap().unwrap();
}

/// The slot of an acquire that hung still counts as one of an acquire while its session is ended.
#[tokio::test(start_paused = true)]
async fn acquires_that_hang_do_not_use_the_last_connection() {
    let (pool, server) = pool(2);
    server.keeps_sessions.store(true, SeqCst);
    pool.lease(Priority::Acquire).await.unwrap().abandon();
    let error = pool.lease(Priority::Acquire).await.unwrap_err();
    assert!(matches!(error, LeaseError::TimedOut { .. }), "{error:?}");
    pool.lease(Priority::Extend).await.unwrap().give_back();
}

#[tokio::test(start_paused = true)]
async fn a_dropped_waiter_leaves_the_queue_and_passes_on_a_connection_that_was_assigned_to_it() {
    let (pool, server) = pool(2);
    let held = pool.lease(Priority::Acquire).await.unwrap();
    let log = Log::default();
    let gone = lease_in_task(&pool, Priority::Acquire, "gone", &log).await;
    let mut handed = Box::pin(pool.lease(Priority::Acquire));
    assert!(is_pending(&mut handed).await);
    let next = lease_in_task(&pool, Priority::Acquire, "next", &log).await;
    gone.abort();
    run_all_tasks().await;
    held.give_back();
    // The connection was assigned to it, and it is dropped before it is polled again.
    drop(handed);
    next.await.unwrap().unwrap();
    assert_eq!(*log.lock().unwrap(), ["next"]);
    assert_eq!(server.opened.load(SeqCst), 1, "the connection was passed on");
}

async fn is_pending<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending())
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn an_acquire_times_out_at_the_limit_and_an_extend_does_not() {
    let (pool, server) = pool(2);
    server.opens(Opens::Never);
    let log = Log::default();
    let extend = lease_in_task(&pool, Priority::Extend, "extend", &log).await;
    let started = Instant::now();
    for priority in [Priority::Acquire, Priority::Release] {
        let error = pool.lease(priority).await.unwrap_err();
        assert!(matches!(error, LeaseError::TimedOut { limit: WAIT, .. }), "{error:?}");
    }
    assert_eq!(started.elapsed(), WAIT * 2);
    server.opens(Opens::Immediately);
    extend.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_acquire_that_would_wait_too_long_fails_immediately_until_the_queue_moves_again() {
    let (pool, _) = pool(2);
    // A stall: leases take longer than the limit on waiting.
    let stalled = pool.lease(Priority::Acquire).await.unwrap();
    advance(WAIT + Duration::from_secs(1)).await;
    stalled.give_back();
    let held = pool.lease(Priority::Acquire).await.unwrap();
    let log = Log::default();
    let first = lease_in_task(&pool, Priority::Acquire, "first", &log).await;
    let started = Instant::now();
    let error = pool.lease(Priority::Acquire).await.unwrap_err();
    assert!(matches!(error, LeaseError::Busy(WAIT)), "{error:?}");
    assert_eq!(started.elapsed(), Duration::ZERO);
    // Extends and releases do not fail.
    pool.lease(Priority::Extend).await.unwrap().give_back();
    // The stall is over, and the queue is empty: the next caller is admitted, and its measurement
    // counts.
    held.give_back();
    first.await.unwrap().unwrap();
    let held = pool.lease(Priority::Acquire).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..10 {
        waiting.push(lease_in_task(&pool, Priority::Acquire, "again", &log).await);
    }
    held.give_back();
    for waiting in waiting {
        waiting.await.unwrap().unwrap();
    }
}

#[test]
fn a_call_reports_that_it_was_not_started_after_the_runtime_of_the_pool_was_shut_down() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (home, other) = (runtime(), runtime());
    let (pool, at) = (home.block_on(async { pool(2).0 }), home.handle().clone());
    let lease_in_call = |pool: Pool<ToServer>, at: Handle| async move {
        let leasing = pool.clone();
        let work = |mut reply: Reply<()>| async move {
            reply.started();
            leasing.lease(Priority::Acquire).await.unwrap().give_back();
            reply.send(());
        };
        call(&at, work).await
    };
    let waiting = other.spawn(lease_in_call(pool.clone(), at.clone()));
    other.block_on(yield_now());
    // Only its own runtime drives it.
    home.block_on(run_all_tasks());
    assert_eq!(other.block_on(waiting).unwrap(), Ok(()));
    drop(home);
    assert_eq!(other.block_on(lease_in_call(pool, at)), Err(Interrupted::NotStarted));
}

/// With real threads: however many waiters are dropped, each connection is returned.
#[test]
fn no_connection_is_lost_while_waiters_are_dropped_on_many_threads() {
    const SIZE: usize = 4;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    runtime.unwrap().block_on(async {
        let (pool, server) = pool(SIZE);
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..64_u64 {
            let pool = pool.clone();
            tasks.spawn(async move {
                for attempt in 0..300_u64 {
                    let limit = Duration::from_micros((task * 31 + attempt * 17) % 90);
                    let leasing = pool.lease(match (task + attempt) % 3 {
                        0 => Priority::Extend,
                        1 => Priority::Release,
                        _ => Priority::Acquire,
                    });
                    if let Ok(Ok(mut lease)) = tokio::time::timeout(limit, leasing).await {
                        lease.connection();
                        yield_now().await;
                        lease.give_back();
                    }
                }
            });
        }
        tasks.join_all().await;
        let mut all = Vec::new();
        for _ in 0..SIZE {
            all.push(pool.lease(Priority::Extend).await.unwrap());
        }
        assert!(server.opened.load(SeqCst) <= SIZE, "{}", server.opened.load(SeqCst));
    });
}
