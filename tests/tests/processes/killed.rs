//! Holders that die without a word.

use std::{os::unix::process::ExitStatusExt, time::Duration};

use syncguard_core::{LockBackend, LockQuery, LockRecord, Ttl};
use syncguard_sqlite::{SqliteBackend, SqliteConfig};
use syncguard_testkit::contender::{Upkeep, Word};

use super::{Stage, acquire, granted, hold, key};

async fn lookup(store: &SqliteBackend) -> LockRecord {
    let query = LockQuery::ByKey(key("k"));
    store.lookup(&query).await.unwrap().expect("the lock is held")
}

/// That the next holder comes then and no later is shown in virtual time, where a waiter asks when the
/// holder's grace is over. Here the order counts, by the timestamps of the one clock of the store.
#[tokio::test]
async fn after_a_kill_the_next_holder_comes_when_the_lease_and_its_grace_are_over() {
    let stage = Stage::new();
    // Long, so that a loaded machine does not starve the renewals, which come every third of it.
    let ttl = Ttl::new(Duration::from_secs(5)).unwrap();
    let (mut holder, mut waiter) = (stage.contender(), stage.contender());
    let fence = hold(&mut holder, ttl, Upkeep::Renewed);
    let waiting = acquire(Ttl::default(), Upkeep::LeftAlone);
    assert_eq!(waiter.ask(&waiting).unwrap(), Word::Waiting);

    // The worst moment to die is after a renewal.
    let store = SqliteBackend::connect(SqliteConfig::new(stage.store())).await.unwrap();
    let first = lookup(&store).await;
    while lookup(&store).await.expires_at == first.expires_at {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(holder.process().kill().unwrap().signal(), Some(9));
    let dead = lookup(&store).await;
    assert_eq!(dead.fence, fence, "it died as the holder");

    let next = granted(&mut waiter);
    assert!(next > fence, "{next} after {fence}");
    let successor = lookup(&store).await;
    assert_eq!(successor.fence, next);
    let free = dead.expires_at.later_by(store.capabilities().grace);
    assert!(successor.acquired_at >= free, "{} before {free}", successor.acquired_at);
    waiter.finish().unwrap();
}
