//! The events that an observer of a backend receives.

use std::{
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use syncguard_core::{
    ErrorKind, LockId, LockManager, Operation, Ttl,
    backend::{AcquireRequest, LockBackend, LockRef},
    contract::{Fault, Faulty, Gate},
    telemetry::{Event, Observed, Outcome, Reason},
};
use syncguard_memory::MemoryBackend;

use super::key;

type Backend = Observed<Faulty<MemoryBackend>>;

/// Longer than the observer's thread ever takes to deliver an event.
const EVENT_TIMEOUT: Duration = Duration::from_secs(20);

/// Observes a store that can be made to fail.
fn observed() -> (Backend, Faulty<MemoryBackend>, Receiver<Event>) {
    let (faults, (sender, events)) = (Faulty::new(MemoryBackend::new()), channel());
    let observed = Observed::new(faults.clone(), move |event| sender.send(event.clone()).unwrap());
    (observed, faults, events)
}

fn next(events: &Receiver<Event>) -> Event {
    events.recv_timeout(EVENT_TIMEOUT).expect("an event is delivered")
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
async fn each_operation_is_reported_with_its_outcome_and_its_reason() {
    let (backend, _, events) = observed();
    let (acquire, lock) = request("k");
    let (other, foreign) = request("k");
    let _ = backend.acquire(&acquire).await.unwrap();
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
    backend.list(&syncguard_core::backend::ListRequest::new("")).await.unwrap();
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
async fn an_expired_lock_is_distinguished_from_one_that_never_existed() {
    let clock = std::sync::Arc::new(syncguard_core::ManualClock::default());
    let (sender, events) = channel();
    let store = MemoryBackend::with_clock(clock.clone());
    let backend = Observed::new(store, move |event| sender.send(event.clone()).unwrap());
    let (acquire, lock) = request("k");
    let _ = backend.acquire(&acquire).await.unwrap();
    assert_ended(&events, Operation::Acquire, Outcome::Ok, None);
    clock.advance(Ttl::default().as_duration() + backend.capabilities().grace);
    let _ = backend.extend(&lock, Ttl::default()).await.unwrap();
    assert_ended(&events, Operation::Extend, Outcome::Fail, Some(Reason::Expired));
}

#[tokio::test]
async fn an_error_is_reported_with_its_kind() {
    let (backend, faults, events) = observed();
    faults.plan(Operation::Acquire, Fault::RequestLost);
    backend.acquire(&request("k").0).await.unwrap_err();
    assert_eq!(faults.planned(), 0, "the request was lost");
    let reason = Reason::Error(ErrorKind::NetworkTimeout);
    assert_ended(&events, Operation::Acquire, Outcome::Error, Some(reason));
}

#[tokio::test]
async fn an_operation_that_is_dropped_is_reported_as_cancelled() {
    let ((backend, faults, events), gate) = (observed(), Gate::new());
    faults.plan(Operation::Acquire, Fault::RequestDelayed(gate.clone()));
    let (acquire, _) = request("k");
    tokio::select! {
        biased;
        _ = backend.acquire(&acquire) => panic!("the gate is closed"),
        () = gate.reached() => {}
    }
    assert_ended(&events, Operation::Acquire, Outcome::Cancelled, None);
}

#[tokio::test]
async fn an_event_has_hashes_and_the_result_of_the_operation() {
    let (backend, _, events) = observed();
    let (acquire, lock) = request("k");
    let _ = backend.acquire(&acquire).await.unwrap();
    let event = next(&events);
    assert_eq!(event.key_hash, Some(key("k").display_hash()));
    assert_eq!(event.lock_id_hash, Some(lock.lock_id.display_hash()));
    assert_eq!(event.fence.unwrap().number(), 1);
    let found = backend.lookup(&key("k").into()).await.unwrap().unwrap();
    let event = next(&events);
    assert_eq!(event.lock_id_hash, Some(found.lock_id.display_hash()), "the lookup found it");
}

#[tokio::test]
async fn keys_and_ids_are_reported_in_clear_only_on_request() {
    let (sender, events) = channel();
    let observed = Observed::builder(MemoryBackend::new()).reveal();
    let backend = observed.start(move |event| sender.send(event.clone()).unwrap());
    let (acquire, lock) = request("patient:jane");
    let _ = backend.acquire(&acquire).await.unwrap();
    let event = next(&events);
    assert_eq!(event.key.as_ref().unwrap().as_str(), "patient:jane");
    assert_eq!(event.lock_id, Some(lock.lock_id));
    let text = format!("{event:?}");
    assert!(!text.contains("jane") && !text.contains(lock.lock_id.as_str()), "{text}");
}

#[tokio::test]
async fn an_observer_that_blocks_forever_delays_nothing_and_missed_events_are_counted() {
    let ((sender, events), (open, closed)) = (channel(), channel::<()>());
    let observed = Observed::builder(MemoryBackend::new()).capacity(3);
    let backend = observed.start(move |event| {
        sender.send(event.clone()).unwrap();
        // Blocks until the end of the test.
        let _ = closed.recv();
    });
    assert!(!backend.is_locked(&key("k")).await.unwrap());
    assert_eq!(next(&events).missed, 0, "the observer is blocked from here on");
    for _ in 0..10 {
        assert!(!backend.is_locked(&key("k")).await.unwrap());
    }
    assert_eq!(backend.missed(), 7, "three are in the queue");
    drop(open);
    let missed: Vec<u64> = (0..3).map(|_| next(&events).missed).collect();
    assert_eq!(missed, [7, 0, 0]);
}

#[tokio::test]
async fn an_observer_that_panics_fails_no_operation_and_receives_the_next_event() {
    let (sender, events) = channel();
    let backend = Observed::new(MemoryBackend::new(), move |event| {
        sender.send(event.clone()).unwrap();
        panic!("the observer panics");
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
async fn an_observer_receives_the_remaining_events_and_is_dropped_after_the_last_backend() {
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
