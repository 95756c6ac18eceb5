//! Questions to a store that does not answer.

use std::future::pending;

use syncguard_core::{
    AcquireOutcome, AcquireRequest, Capabilities, Error, ErrorKind, ExtendOutcome, Finding,
    ListRequest, LockBackend, LockId, LockKey, LockManager, LockPage, LockQuery, LockRecord,
    LockRef, ReleaseOutcome, Ttl,
};

use super::{
    World, error_of, key,
    time::{assert_at, secs},
};

/// A store that never answers.
struct Silent;

impl LockBackend for Silent {
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
async fn every_question_ends_with_the_request_timeout() {
    let (world, id) = (World::new(), LockId::mint().unwrap());
    let locks = LockManager::builder(Silent).request_timeout(secs(3)).build();
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
fn what_a_store_can_do_is_known_without_asking_it() {
    let locks = LockManager::new(Silent);
    assert_eq!(locks.capabilities(), Silent.capabilities());
    assert_ne!(locks.capabilities(), Capabilities::default());
}
