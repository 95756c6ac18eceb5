//! Holders that die without a word.

use std::{
    os::unix::process::ExitStatusExt,
    time::{Duration, Instant},
};

use syncguard_core::{LockBackend, LockQuery, LockRecord, Ttl};
use syncguard_sqlite::SqliteBackend;
use syncguard_tests::contender::{Upkeep, Word};

use super::{Stage, acquire, granted, hold, key};

/// How much later than a dead holder's last moment the next one may come.
const SLACK: Duration = Duration::from_millis(250);

async fn lookup(store: &SqliteBackend) -> LockRecord {
    let query = LockQuery::ByKey(key("k"));
    store.lookup(&query).await.unwrap().expect("the lock is held")
}

#[tokio::test]
async fn after_a_kill_the_next_holder_comes_when_the_lease_and_its_grace_are_over() {
    let stage = Stage::alone();
    let ttl = Ttl::new(Duration::from_secs(1)).unwrap();
    let (mut holder, mut waiter) = (stage.contender(), stage.contender());
    let fence = hold(&mut holder, ttl, Upkeep::Renewed);
    assert_eq!(waiter.ask(&acquire(ttl, Upkeep::LeftAlone)).unwrap(), Word::Waiting);

    // The worst moment to die is after a renewal.
    let store = SqliteBackend::open(stage.store()).await.unwrap();
    let first = lookup(&store).await;
    while lookup(&store).await.expires_at == first.expires_at {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let killed = Instant::now();
    assert_eq!(holder.process().kill().unwrap().signal(), Some(9));
    assert_eq!(lookup(&store).await.fence, fence, "it died as the holder");

    let next = granted(&mut waiter);
    let free = killed.elapsed();
    assert!(free <= ttl.as_duration() + store.capabilities().grace + SLACK, "{free:?}");
    assert!(next > fence, "{next} after {fence}");
    waiter.finish().unwrap();
}
