//! What an observer of a backend is told.

use std::{
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use syncguard_core::{
    AcquireRequest, ErrorKind, LockBackend, LockId, LockManager, LockRef, Operation, Ttl,
    contract::{Fault, Faulty, Gate},
    telemetry::{Event, Observed, Outcome, Reason},
};
use syncguard_memory::MemoryBackend;

use super::key;

type Backend = Observed<Faulty<MemoryBackend>>;

/// Longer than an observer's thread ever takes to come round.
const PATIENCE: Duration = Duration::from_secs(20);

/// Observes a store that can be made to fail.
fn observed() -> (Backend, Faulty<MemoryBackend>, Receiver<Event>) {
    let (faults, (told, events)) = (Faulty::new(MemoryBackend::new()), channel());
    let observed = Observed::new(faults.clone(), move |event| told.send(event.clone()).unwrap());
    (observed, faults, events)
}

fn next(events: &Receiver<Event>) -> Event {
    events.recv_timeout(PATIENCE).expect("an event is told")
}

fn request(text: &str) -> (AcquireRequest, LockRef) {
    let id = LockId::mint().unwrap();
    (AcquireRequest::new(key(text), id, Ttl::default()), LockRef::new(id, key(text)))
}

#[track_caller]
fn assert_ended(
    events: &Receiver<Event>,
    operation: Operation,
    outcome: Outcome,
    reason: Option<Reason>,
) {
    let event = next(events);
    assert_eq!((event.operation, event.outcome, event.reason), (operation, outcome, reason));
    assert_eq!((event.missed, event.key.is_none(), event.lock_id.is_none()), (0, true, true));
}

#[tokio::test]
async fn each_operation_is_told_with_its_outcome_and_its_reason() {
    let (backend, _, events) = observed();
    let (ask, lock) = request("k");
    let (other, foreign) = request("k");
    let _ = backend.acquire(&ask).await.unwrap();
    assert_ended(&events, Operation::Acquire, Outcome::Ok, None);
    let _ = backend.acquire(&other).await.unwrap();
    assert_ended(&events, Operation::Acquire, Outcome::Fail, Some(Reason::Locked));
    let _ = backend.extend(&lock, Ttl::default()).await.unwrap();
    assert_ended(&events, Operation::Extend, Outcome::Ok, None);
    let _ = backend.extend(&foreign, Ttl::default()).await.unwrap();
    assert_ended(&events, Operation::Extend, Outcome::Fail, Some(Reason::NotFound));
    assert!(backend.is_locked(&key("k")).await.unwrap());
    assert_ended(&events, Operation::IsLocked, Outcome::Ok, None);
    backend.lookup(&key("k").into()).await.unwrap().unwrap();
    assert_ended(&events, Operation::Lookup, Outcome::Ok, None);
    assert!(backend.lookup(&foreign.lock_id.into()).await.unwrap().is_none());
    assert_ended(&events, Operation::Lookup, Outcome::Fail, Some(Reason::NotFound));
    backend.list(&syncguard_core::ListRequest::new("")).await.unwrap();
    assert_ended(&events, Operation::List, Outcome::Ok, None);
    let _ = backend.release(&lock).await.unwrap();
    assert_ended(&events, Operation::Release, Outcome::Ok, None);
    let _ = backend.release(&lock).await.unwrap();
    assert_ended(&events, Operation::Release, Outcome::Fail, Some(Reason::NotFound));
    backend.abandon(foreign.lock_id, &key("k")).await.unwrap();
    assert_ended(&events, Operation::Abandon, Outcome::Ok, None);
    let _ = backend.acquire(&other).await.unwrap_err();
    assert_ended(&events, Operation::Acquire, Outcome::Cancelled, None);
    assert!(backend.force_release(&key("k")).await.unwrap().is_none());
    assert_ended(&events, Operation::ForceRelease, Outcome::Fail, Some(Reason::NotFound));
    backend.check().await.unwrap();
    assert_ended(&events, Operation::Check, Outcome::Ok, None);
}

#[tokio::test]
async fn an_expired_lock_is_told_from_one_that_never_was() {
    let clock = std::sync::Arc::new(syncguard_core::ManualClock::default());
    let (told, events) = channel();
    let store = MemoryBackend::with_clock(clock.clone());
    let backend = Observed::new(store, move |event| told.send(event.clone()).unwrap());
    let (ask, lock) = request("k");
    let _ = backend.acquire(&ask).await.unwrap();
    assert_ended(&events, Operation::Acquire, Outcome::Ok, None);
    clock.advance(Ttl::default().as_duration() + backend.capabilities().grace);
    let _ = backend.extend(&lock, Ttl::default()).await.unwrap();
    assert_ended(&events, Operation::Extend, Outcome::Fail, Some(Reason::Expired));
}

#[tokio::test]
async fn an_error_is_told_with_its_kind() {
    let (backend, faults, events) = observed();
    faults.plan(Operation::Acquire, Fault::RequestLost);
    backend.acquire(&request("k").0).await.unwrap_err();
    assert_eq!(faults.planned(), 0, "the request was lost");
    let reason = Reason::Error(ErrorKind::NetworkTimeout);
    assert_ended(&events, Operation::Acquire, Outcome::Error, Some(reason));
}

#[tokio::test]
async fn an_operation_that_is_dropped_is_told_as_cancelled() {
    let ((backend, faults, events), gate) = (observed(), Gate::new());
    faults.plan(Operation::Acquire, Fault::RequestHeld(gate.clone()));
    let (ask, _) = request("k");
    tokio::select! {
        biased;
        _ = backend.acquire(&ask) => panic!("the gate is closed"),
        () = gate.reached() => {}
    }
    assert_ended(&events, Operation::Acquire, Outcome::Cancelled, None);
}

#[tokio::test]
async fn an_event_has_hashes_and_what_the_store_answered() {
    let (backend, _, events) = observed();
    let (ask, lock) = request("k");
    let _ = backend.acquire(&ask).await.unwrap();
    let event = next(&events);
    assert_eq!(event.key_hash, Some(key("k").display_hash()));
    assert_eq!(event.lock_id_hash, Some(lock.lock_id.display_hash()));
    assert_eq!(event.fence.unwrap().number(), 1);
    let found = backend.lookup(&key("k").into()).await.unwrap().unwrap();
    let event = next(&events);
    assert_eq!(event.lock_id_hash, Some(found.lock_id.display_hash()), "it was looked up");
}

#[tokio::test]
async fn keys_and_ids_are_told_in_clear_on_request_alone() {
    let (told, events) = channel();
    let observed = Observed::builder(MemoryBackend::new()).reveal();
    let backend = observed.start(move |event| told.send(event.clone()).unwrap());
    let (ask, lock) = request("patient:jane");
    let _ = backend.acquire(&ask).await.unwrap();
    let event = next(&events);
    assert_eq!(event.key.as_ref().unwrap().as_str(), "patient:jane");
    assert_eq!(event.lock_id, Some(lock.lock_id));
    let text = format!("{event:?}");
    assert!(!text.contains("jane") && !text.contains(lock.lock_id.as_str()), "{text}");
}

#[tokio::test]
async fn an_observer_that_blocks_for_ever_delays_nothing_and_what_it_misses_is_counted() {
    let ((told, events), (open, closed)) = (channel(), channel::<()>());
    let observed = Observed::builder(MemoryBackend::new()).capacity(3);
    let backend = observed.start(move |event| {
        told.send(event.clone()).unwrap();
        // For ever, as far as the operations are concerned.
        let _ = closed.recv();
    });
    assert!(!backend.is_locked(&key("k")).await.unwrap());
    assert_eq!(next(&events).missed, 0, "the observer is blocked from here on");
    for _ in 0..10 {
        assert!(!backend.is_locked(&key("k")).await.unwrap());
    }
    assert_eq!(backend.missed(), 7, "three wait");
    drop(open);
    let missed: Vec<u64> = (0..3).map(|_| next(&events).missed).collect();
    assert_eq!(missed, [7, 0, 0]);
}

#[tokio::test]
async fn an_observer_that_panics_fails_nothing_and_is_told_the_next_event() {
    let (told, events) = channel();
    let backend = Observed::new(MemoryBackend::new(), move |event| {
        told.send(event.clone()).unwrap();
        panic!("the observer's own trouble");
    });
    let locks = LockManager::new(backend.clone());
    for _ in 0..3 {
        locks.lock("k").acquire().await.unwrap().release().await.unwrap();
    }
    let operations: Vec<_> = (0..6).map(|_| next(&events).operation).collect();
    assert_eq!(operations, [Operation::Acquire, Operation::Release].repeat(3));
    assert_eq!(backend.missed(), 0);
}

#[tokio::test]
async fn an_observer_is_told_what_is_left_and_dropped_once_nobody_can_be_observed() {
    let (backend, _, events) = observed();
    for _ in 0..100 {
        backend.check().await.unwrap();
    }
    let other = backend.clone();
    drop(backend);
    other.check().await.unwrap();
    drop(other);
    // The channel ends when the observer, which has its other side, is dropped.
    assert_eq!(events.iter().count(), 101);
}
