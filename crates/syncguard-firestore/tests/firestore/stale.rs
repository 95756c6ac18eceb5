//! Reads whose read time and state are earlier than their request.

use std::time::Duration;

use firestore_emulator::{ClockOffset, Emulator, Fault, Rpc};
use gcloud_sdk::tonic::Code;
use syncguard_core::{
    Timestamp,
    backend::{AcquireOutcome, ExtendOutcome, LockBackend, LockQuery, LockRef, NotHeld},
};
use syncguard_firestore::FirestoreBackend;
use syncguard_testkit::operations::{
    LONG, ask, extended, granted, is_contended, key, lock_of, released, ttl,
};

use crate::{connect, start};

/// Longer than the grace, and shorter than the retention of the double.
const STALENESS: Duration = Duration::from_secs(30);

/// Starts a double and acquires an additional lock, whose lookups report the server's time.
async fn start_with_a_clock() -> (Emulator, FirestoreBackend) {
    let emulator = start().await;
    let backend = connect(&emulator);
    granted(&backend, &ask("clock", 60 * LONG)).await;
    (emulator, backend)
}

async fn server_time(backend: &FirestoreBackend) -> Timestamp {
    backend.lookup(&LockQuery::ByKey(key("clock"))).await.unwrap().unwrap().observed_at
}

#[tokio::test]
async fn a_grant_after_a_stale_read_lasts_for_its_ttl_after_the_request() {
    let (emulator, backend) = start_with_a_clock().await;
    // With the shorter ttl, an expiry counted from the read would have passed already.
    for (text, by, duration) in
        [("job", STALENESS, LONG), ("another", STALENESS, Duration::from_secs(2))]
    {
        let stale = emulator.inject(Fault::stale(by).document(text));
        let (before, request) = (server_time(&backend).await, ask(text, duration));
        let grant = granted(&backend, &request).await;
        assert_eq!((stale.hits(), grant.fence.number()), (1, 1));
        assert!(grant.expires_at >= before.after(ttl(duration)), "{grant:?} {before:?}");
        assert!(grant.expires_at <= server_time(&backend).await.after(ttl(duration)), "{grant:?}");
        let record = backend.lookup(&request.lock_id.into()).await.unwrap().unwrap();
        assert_eq!(record.expires_at, grant.expires_at);
        assert!(is_contended(&connect(&emulator), text).await);
        assert!(extended(&backend, &request).await && released(&backend, &request).await);
    }
}

#[tokio::test]
async fn a_slightly_stale_read_is_detected_as_well() {
    let (emulator, backend) = start_with_a_clock().await;
    // Within the grace. The time that has passed at the commit reveals it, unless the machine is
    // very slow.
    let stale = emulator.inject(Fault::stale(Duration::from_millis(900)).document("job"));
    let before = server_time(&backend).await;
    let grant = granted(&backend, &ask("job", LONG)).await;
    let allowed = Duration::from_millis(500);
    assert_eq!(stale.hits(), 1);
    assert!(grant.expires_at.later_by(allowed) >= before.after(ttl(LONG)), "{grant:?} {before:?}");
}

#[tokio::test]
async fn a_grant_whose_reply_was_lost_after_a_stale_read_lasts_as_long() {
    let (emulator, backend) = start_with_a_clock().await;
    for code in [Code::Unavailable, Code::Aborted] {
        let text = format!("{code:?}");
        let stale = emulator.inject(Fault::stale(STALENESS).document(&text));
        let lost = emulator.inject(Fault::answer(code).document(&text));
        let (before, request) = (server_time(&backend).await, ask(&text, LONG));
        let grant = granted(&backend, &request).await;
        assert_eq!((stale.hits(), lost.hits(), grant.fence.number()), (1, 1, 1));
        assert!(grant.expires_at >= before.after(ttl(LONG)), "{grant:?} {before:?}");
        let again = granted(&connect(&emulator), &request).await;
        assert_eq!(again, grant, "it is moved once");
        assert!(released(&backend, &request).await);
    }
}

#[tokio::test]
async fn a_grant_whose_expiry_could_not_be_moved_is_unknown_and_found_by_a_retry() {
    let (emulator, backend) = start_with_a_clock().await;
    let request = ask("job", LONG);
    emulator.inject(Fault::stale(STALENESS).document("job"));
    let held = emulator.inject(Fault::hold().document("job"));
    let acquiring = tokio::spawn({
        let (backend, request) = (backend.clone(), request.clone());
        async move { backend.acquire(&request).await }
    });
    held.happened(1).await;
    let refused = emulator.inject(Fault::refuse(Code::Unavailable).document("job"));
    held.release();
    let error = acquiring.await.unwrap().unwrap_err();
    assert!(refused.hits() == 1 && error.may_have_applied(), "{error:?}");
    let before = server_time(&backend).await;
    let grant = granted(&backend, &request).await;
    assert!(
        grant.fence.number() == 1
            && grant.expires_at.later_by(LONG / 2) > before.after(request.ttl)
    );
}

/// The stale read finds the key free. The commit that relies on it fails, because the counter has
/// changed.
#[tokio::test]
async fn a_stale_read_never_grants_a_lock_that_another_id_holds() {
    let (emulator, backend) = start_with_a_clock().await;
    let theirs = connect(&emulator);
    let held = ask("job", LONG);
    let grant = granted(&theirs, &held).await;
    for times in [1, 2, 1_000] {
        let stale = emulator.inject(Fault::stale(STALENESS).document("job").times(times));
        let outcome = backend.acquire(&ask("job", LONG)).await.unwrap();
        assert!(matches!(outcome, AcquireOutcome::Contended { .. }), "{outcome:?}");
        assert!(stale.hits() >= 1 && stale.hits() <= times, "{}", stale.hits());
        let record = theirs.lookup(&held.lock_id.into()).await.unwrap().unwrap();
        assert_eq!((record.fence, record.expires_at), (grant.fence, grant.expires_at));
    }
    assert!(extended(&theirs, &held).await);
}

/// The stale read finds an earlier expiry; the lock was extended since.
#[tokio::test]
async fn a_stale_read_never_grants_a_lock_that_was_extended_since() {
    let (emulator, backend) = start_with_a_clock().await;
    let theirs = connect(&emulator);
    let held = ask("job", LONG);
    granted(&theirs, &held).await;
    emulator.set_clock_offset(ClockOffset::Ahead(LONG * 3 / 4));
    assert!(extended(&theirs, &held).await);
    emulator.set_clock_offset(ClockOffset::Ahead(LONG * 5 / 4));
    emulator.inject(Fault::stale(STALENESS).document("job"));
    assert!(is_contended(&backend, "job").await);
    assert!(is_contended(&backend, "job").await);
}

#[tokio::test]
async fn an_extend_after_a_stale_read_counts_from_the_servers_current_time() {
    let (emulator, backend) = start_with_a_clock().await;
    let request = ask("job", LONG);
    granted(&backend, &request).await;
    // The lock is older than the staleness of the read.
    emulator.set_clock_offset(ClockOffset::Ahead(LONG * 3 / 4));
    let (by_key, by_id) = (lock_of(&request), LockRef::from(request.lock_id));
    // With the shorter ttl, the first expiry that is written has passed.
    for (lock, duration) in [(&by_key, LONG), (&by_id, LONG), (&by_key, STALENESS / 3)] {
        let theirs = connect(&emulator);
        let read = if lock.key.is_some() { Rpc::BatchGetDocuments } else { Rpc::RunQuery };
        let before = server_time(&backend).await;
        let stale = emulator.inject(Fault::stale(STALENESS).on(read));
        let outcome = theirs.extend(lock, ttl(duration)).await.unwrap();
        let ExtendOutcome::Extended { expires_at } = outcome else { panic!("{outcome:?}") };
        assert_eq!(stale.hits(), 1);
        assert!(expires_at >= before.after(ttl(duration)), "{expires_at} {before:?}");
        let record = theirs.lookup(&request.lock_id.into()).await.unwrap().unwrap();
        assert_eq!(record.expires_at, expires_at);
    }
}

#[tokio::test]
async fn an_extend_after_a_stale_read_revives_no_expired_grant() {
    let (emulator, backend) = start_with_a_clock().await;
    let request = ask("job", LONG);
    granted(&backend, &request).await;
    emulator.set_clock_offset(ClockOffset::Ahead(LONG * 5 / 4));
    let stale = emulator.inject(Fault::stale(STALENESS).document("job"));
    let outcome = connect(&emulator).extend(&lock_of(&request), ttl(LONG)).await.unwrap();
    assert_eq!(outcome, ExtendOutcome::NotHeld(NotHeld::Expired));
    assert_eq!(stale.hits(), 1);
    assert_eq!(granted(&backend, &ask("job", LONG)).await.fence.number(), 2);
}

/// The read after a lost reply shows an earlier state, in which another id held the key.
#[tokio::test]
async fn a_stale_read_does_not_determine_the_outcome_of_a_commit() {
    let (emulator, backend) = start_with_a_clock().await;
    let (earlier, request) = (ask("job", LONG), ask("job", LONG));
    granted(&backend, &earlier).await;
    emulator.set_clock_offset(ClockOffset::Ahead(LONG * 3 / 4));
    assert!(released(&backend, &earlier).await);
    let held = emulator.inject(Fault::hold().document("job"));
    let lost = emulator.inject(Fault::answer(Code::Unavailable).document("job"));
    let acquiring = tokio::spawn({
        let (backend, request) = (backend.clone(), request.clone());
        async move { backend.acquire(&request).await }
    });
    held.happened(1).await;
    let stale = emulator.inject(Fault::stale(STALENESS).document("job"));
    held.release();
    let error = acquiring.await.unwrap().unwrap_err();
    assert_eq!((lost.hits(), stale.hits()), (1, 1));
    assert!(error.may_have_applied(), "{error:?}");
    assert_eq!(granted(&backend, &request).await.fence.number(), 2, "it had been granted");
}
