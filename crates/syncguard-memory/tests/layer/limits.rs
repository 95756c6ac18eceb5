//! Lookups in a store that does not reply.

use std::future::pending;

use syncguard_core::{
    Error, ErrorKind, LockId, LockKey, LockManager, ReleaseOutcome, Ttl,
    backend::{
        AcquireOutcome, AcquireRequest, Capabilities, ExtendOutcome, Finding, ListRequest,
        LockBackend, LockPage, LockQuery, LockRecord, LockRef,
    },
};

use super::{
    World, error_of, key,
    time::{assert_at, secs},
};

/// A store that never replies.
struct Unresponsive;

impl LockBackend for Unresponsive {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new().with_list()
    }

    async fn acquire(&self, _: &AcquireRequest) -> Result<AcquireOutcome, Error> {
        pending().await
    }

    async fn extend(&self, _: &LockRef, _: Ttl) -> Result<ExtendOutcome, Error> {
        pending().await
    }

    async fn release(&self, _: &LockRef) -> Result<ReleaseOutcome, Error> {
        pending().await
    }

    async fn lookup(&self, _: &LockQuery) -> Result<Option<LockRecord>, Error> {
        pending().await
    }

    async fn abandon(&self, _: LockId, _: &LockKey) -> Result<(), Error> {
        pending().await
    }

    async fn list(&self, _: &ListRequest) -> Result<LockPage, Error> {
        pending().await
    }

    async fn force_release(&self, _: &LockKey) -> Result<Option<LockRecord>, Error> {
        pending().await
    }

    async fn check(&self) -> Result<Vec<Finding>, Error> {
        pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn every_lookup_ends_with_the_request_timeout() {
    let (world, id) = (World::new(), LockId::mint().unwrap());
    let locks = LockManager::builder(Unresponsive).request_timeout(secs(3)).build();
    let late = ErrorKind::NetworkTimeout;
    error_of(locks.lookup("k").await, late);
    error_of(locks.lookup_by_id(id).await, late);
    error_of(locks.lookup_raw(&key("k").into()).await, late);
    error_of(locks.is_locked("k").await, late);
    error_of(locks.owns(id).await, late);
    error_of(locks.list(&ListRequest::new("")).await, late);
    error_of(locks.force_release("k").await, late);
    error_of(locks.check().await, late);
    assert_at(world.clock.elapsed(), secs(3 * 8));
}

#[test]
fn capabilities_are_known_without_a_request() {
    let locks = LockManager::new(Unresponsive);
    assert_eq!(locks.capabilities(), Unresponsive.capabilities());
    assert_ne!(locks.capabilities(), Capabilities::default());
}
