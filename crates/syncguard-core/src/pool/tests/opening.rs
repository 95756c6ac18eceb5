use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use tokio::time::{Instant, sleep};

use super::{Log, Opens, WAIT, lease_in_task, pool};
use crate::pool::{LeaseError, Priority, state::MAX_OPENING};

#[tokio::test(start_paused = true)]
async fn a_connection_whose_waiter_is_gone_is_opened_for_the_pool() {
    let (pool, server) = pool(2);
    server.opens(Opens::After(WAIT + Duration::from_millis(500)));
    pool.lease(Priority::Acquire).await.unwrap_err();
    pool.lease(Priority::Acquire).await.unwrap().give_back();
    assert_eq!(server.attempts.load(SeqCst), 1, "it was opened for the next caller");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_waiters_open_a_few_connections_at_a_time() {
    let (pool, server) = pool(10);
    server.opens(Opens::WhenAdmitted);
    let log = Log::default();
    let mut waiting = Vec::new();
    for _ in 0..1_000 {
        waiting.push(lease_in_task(&pool, Priority::Extend, "extend", &log).await);
    }
    assert_eq!(server.attempts.load(SeqCst), MAX_OPENING);
    server.opens(Opens::Immediately);
    server.admits.notify_waiters();
    for waiting in waiting {
        waiting.await.unwrap().unwrap();
    }
    assert!(server.opened.load(SeqCst) <= 10);
}

/// The server stalls for twelve seconds, and many callers wait with short timeouts.
#[tokio::test(start_paused = true)]
async fn while_opening_hangs_or_fails_attempts_are_few() {
    for (opens, most) in [(Opens::Never, 6), (Opens::Fails, 200)] {
        let (pool, server) = pool(10);
        server.opens(opens);
        let log = Log::default();
        let mut waiting = Vec::new();
        for _ in 0..3 {
            for _ in 0..100 {
                waiting.push(lease_in_task(&pool, Priority::Release, "release", &log).await);
            }
            sleep(WAIT).await;
        }
        let started = server.attempts.load(SeqCst);
        assert!((1..=most).contains(&started), "{started} attempts");
        for waiting in waiting {
            let error = waiting.await.unwrap().unwrap_err();
            let LeaseError::TimedOut { cause, .. } = error else { panic!("{error:?}") };
            assert_eq!(cause.is_some(), opens == Opens::Fails, "the cause is reported");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_is_returned_to_all_waiters_immediately() {
    let (pool, server) = pool(2);
    server.opens(Opens::Rejects);
    let started = Instant::now();
    let (extend, release, acquire) = tokio::join!(
        pool.lease(Priority::Extend),
        pool.lease(Priority::Release),
        pool.lease(Priority::Acquire)
    );
    for error in [extend, release, acquire] {
        let error = error.unwrap_err();
        assert!(matches!(&error, LeaseError::Failed(e) if **e == "wrong password"), "{error:?}");
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
    server.opens(Opens::Immediately);
    pool.lease(Priority::Acquire).await.unwrap().give_back();
}

/// After a change of the password, open connections must still be usable.
#[tokio::test(start_paused = true)]
async fn a_waiter_that_an_open_connection_can_serve_is_not_failed_by_an_error_while_opening() {
    let (pool, server) = pool(3);
    let held = pool.lease(Priority::Extend).await.unwrap();
    server.opens(Opens::Rejects);
    let log = Log::default();
    let waiting = lease_in_task(&pool, Priority::Extend, "extend", &log).await;
    assert!(server.attempts.load(SeqCst) > 1, "opening was tried");
    held.give_back();
    waiting.await.unwrap().unwrap();
}

/// With real threads: openers that fail at the same time, and waiters that arrive just then.
#[test]
fn openers_that_fail_leave_no_waiter_behind() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    runtime.unwrap().block_on(async {
        let (pool, server) = pool(4);
        server.opens(Opens::EveryFourth);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let pool = pool.clone();
            tasks.spawn(async move {
                for _ in 0..8 {
                    // Touched and dropped, so that the next one has to be opened.
                    pool.lease(Priority::Extend).await.unwrap().connection();
                }
            });
        }
        tasks.join_all().await;
        assert!(server.attempts.load(SeqCst) > server.opened.load(SeqCst), "opening failed");
    });
}
