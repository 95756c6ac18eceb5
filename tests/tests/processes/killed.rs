//! Holders that are killed.

use std::{os::unix::process::ExitStatusExt, time::Duration};

use syncguard_core::{
    Ttl,
    backend::{LockBackend, LockQuery, LockRecord},
};
use syncguard_sqlite::{SqliteBackend, SqliteConfig};
use syncguard_testkit::contender::{Renewal, Reply};

use super::{SharedDir, acquire, granted, hold, key};

async fn lookup(store: &SqliteBackend) -> LockRecord {
    let query = LockQuery::ByKey(key("k"));
    store.lookup(&query).await.unwrap().expect("the lock is held")
}

/// That the next holder acquires the lock no later than that is tested in virtual time, where a
/// waiter retries when the holder's grace is over. This test checks the order, by the timestamps of
/// the one clock of the store.
#[tokio::test]
async fn after_a_kill_the_next_holder_acquires_when_the_lease_and_its_grace_are_over() {
    let dir = SharedDir::new();
    // Long enough that a loaded machine does not starve the renewals, one every third of the ttl.
    let ttl = Ttl::new(Duration::from_secs(5)).unwrap();
    let (mut holder, mut waiter) = (dir.contender(), dir.contender());
    let fence = hold(&mut holder, ttl, Renewal::Automatic);
    let waiting = acquire(Ttl::default(), Renewal::Disabled);
    assert_eq!(waiter.request(&waiting).unwrap(), Reply::Waiting);

    // The worst moment to die is right after a renewal.
    let store = SqliteBackend::connect(SqliteConfig::new(dir.store())).await.unwrap();
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
