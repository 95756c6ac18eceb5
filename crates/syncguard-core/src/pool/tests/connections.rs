use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use tokio::time::{Instant, sleep};

use super::{Log, OPEN, lease_in_task, pool};
use crate::pool::{Lease, MAX_ENDING, PING_TIMEOUT, Priority};

#[tokio::test(start_paused = true)]
async fn a_connection_is_pinged_after_it_was_idle_and_not_while_it_is_used_often() {
    let (pool, server) = pool(2);
    pool.open_first().await.unwrap();
    for _ in 0..100 {
        pool.lease(Priority::Acquire).await.unwrap().give_back();
    }
    assert_eq!(server.pings.load(SeqCst), 0);
    sleep(Duration::from_secs(6)).await;
    pool.lease(Priority::Acquire).await.unwrap().give_back();
    assert_eq!((server.pings.load(SeqCst), server.opened.load(SeqCst)), (1, 1));
    pool.suspect_idle();
    pool.lease(Priority::Acquire).await.unwrap().give_back();
    assert_eq!((server.pings.load(SeqCst), server.opened.load(SeqCst)), (2, 1));
    sleep(Duration::from_secs(50)).await;
    pool.lease(Priority::Acquire).await.unwrap().give_back();
    assert_eq!((server.pings.load(SeqCst), server.opened.load(SeqCst)), (2, 2), "it was too old");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_no_one_uses_is_closed_although_nothing_is_leased() {
    let (pool, server) = pool(3);
    pool.open_first().await.unwrap();
    sleep(Duration::from_secs(30)).await;
    let [used, other] = [Priority::Extend; 2].map(|priority| pool.lease(priority));
    let (used, other) = (used.await.unwrap(), other.await.unwrap());
    other.give_back();
    sleep(Duration::from_secs(44)).await;
    used.give_back();
    assert_eq!(server.closed.load(SeqCst), 0);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(server.closed.load(SeqCst), 1, "the one that was returned first");
    sleep(Duration::from_secs(42)).await;
    assert_eq!(server.closed.load(SeqCst), 1);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(server.closed.load(SeqCst), 2);
    pool.lease(Priority::Acquire).await.unwrap().give_back();
    sleep(Duration::from_secs(46)).await;
    assert_eq!((server.opened.load(SeqCst), server.closed.load(SeqCst)), (3, 3), "and once more");
}

#[tokio::test(start_paused = true)]
async fn a_ping_without_an_answer_closes_all_connections_that_were_idle_as_long() {
    let (pool, server) = pool(4);
    let mut leases = Vec::new();
    for _ in 0..4 {
        leases.push(pool.lease(Priority::Extend).await.unwrap());
    }
    leases.into_iter().for_each(Lease::give_back);
    sleep(Duration::from_secs(6)).await;
    server.is_silent.store(true, SeqCst);
    let started = Instant::now();
    let lease = pool.lease(Priority::Acquire).await.unwrap();
    assert_eq!(server.pings.load(SeqCst), 1);
    assert_eq!(started.elapsed(), PING_TIMEOUT);
    assert_eq!(server.opened.load(SeqCst), 5, "a new one was opened");
    lease.give_back();
}

#[tokio::test(start_paused = true)]
async fn the_slot_of_an_abandoned_connection_is_free_when_its_session_is_gone() {
    let (pool, server) = pool(2);
    server.keeps_sessions.store(true, SeqCst);
    let first = pool.lease(Priority::Extend).await.unwrap();
    let second = pool.lease(Priority::Extend).await.unwrap();
    first.abandon();
    second.abandon();
    let log = Log::default();
    let waiting = lease_in_task(&pool, Priority::Extend, "extend", &log).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(server.opened.load(SeqCst), 2, "no third session beside the two");
    server.keeps_sessions.store(false, SeqCst);
    waiting.await.unwrap().unwrap();
    let ended = server.ended.lock().unwrap().clone();
    assert!(ended.starts_with(&[0]) && ended.contains(&1), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_cannot_be_ended_keeps_its_slot_for_a_bounded_time() {
    let (pool, server) = pool(2);
    server.keeps_sessions.store(true, SeqCst);
    let (one, other) =
        (pool.lease(Priority::Extend).await.unwrap(), pool.lease(Priority::Extend).await.unwrap());
    one.abandon();
    other.abandon();
    let started = Instant::now();
    pool.lease(Priority::Extend).await.unwrap().give_back();
    assert!(
        (MAX_ENDING..MAX_ENDING + OPEN).contains(&started.elapsed()),
        "{:?}",
        started.elapsed()
    );
}
