//! Keys in shared mode under load, faults and late commits.

use std::{num::NonZeroU32, time::Duration};

use firestore_emulator::{ClockOffset, Concurrency, Emulator, Fault, Injection, Rpc};
use gcloud_sdk::tonic::Code;
use syncguard_core::{
    Error, ErrorKind,
    backend::{AcquireOutcome, AcquireRequest, ExtendOutcome, LockBackend, Mode, NotHeld},
};
use syncguard_firestore::FirestoreBackend;
use syncguard_testkit::operations::{
    LONG, ask, error_of, extended, granted, is_contended, is_locked, key, lock_of, released, ttl,
};
use tokio::task::{JoinHandle, JoinSet};

use crate::{
    config, connect,
    raw::Raw,
    sharing::{reader, waiting_writer},
    start, start_as,
};

/// Longer than the grace, and shorter than the retention of the double.
const STALENESS: Duration = Duration::from_secs(30);

/// Starts an acquire whose commit has arrived at the server and is held there.
async fn hold_in_flight(
    emulator: &Emulator,
    backend: &FirestoreBackend,
    request: &AcquireRequest,
) -> (Injection, JoinHandle<Result<AcquireOutcome, Error>>) {
    let late = emulator.inject(Fault::hold().document("job"));
    let (backend, request) = (backend.clone(), request.clone());
    let acquiring = tokio::spawn(async move { backend.acquire(&request).await });
    late.happened(1).await;
    (late, acquiring)
}

fn ids(holders: &[syncguard_core::backend::SharedHolder]) -> Vec<syncguard_core::LockId> {
    holders.iter().map(|holder| holder.lock_id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_conflict_all_join_extend_and_leave() {
    const READERS: usize = 16;
    for concurrency in [Concurrency::Pessimistic, Concurrency::Optimistic] {
        let emulator = start_as(concurrency).await;
        // Hundreds of calls take long on a busy machine.
        let client = || FirestoreBackend::connect(config(&emulator).request_timeout(LONG)).unwrap();
        let clients: Vec<_> = (0..4).map(|_| client()).collect();
        let mut tasks = JoinSet::new();
        for n in 0..READERS {
            let client = clients[n % clients.len()].clone();
            tasks.spawn(async move {
                let request = reader("job", LONG);
                // An attempt ends as contended if it never had its turn in time.
                while matches!(
                    client.acquire(&request).await.unwrap(),
                    AcquireOutcome::Contended { .. }
                ) {}
                assert!(extended(&client, &request).await && released(&client, &request).await);
            });
        }
        tasks.join_all().await;
        let commits = usize::try_from(emulator.calls().of(Rpc::Commit)).unwrap();
        assert!(commits > 3 * READERS, "there were conflicts among {commits} commits");
        assert!(
            Raw::connect(&emulator).read("locks/job").await.is_none(),
            "the last one deleted it"
        );
        let next = granted(&clients[0], &ask("job", LONG)).await.fence.number();
        assert_eq!(next, u64::try_from(READERS).unwrap() + 1, "a conflict costs no fence");
    }
}

#[tokio::test]
async fn a_commit_of_a_reader_that_arrives_after_its_abandon_fails() {
    let emulator = start().await;
    let (slow, fast) = (connect(&emulator), connect(&emulator));
    for others in [0, 2] {
        let others: Vec<_> = (0..others).map(|_| reader("job", LONG)).collect();
        for other in &others {
            granted(&fast, other).await;
        }
        let request = reader("job", LONG);
        let (late, acquiring) = hold_in_flight(&emulator, &slow, &request).await;
        fast.abandon(request.lock_id, &request.key).await.unwrap();
        late.release();
        error_of(acquiring.await.unwrap(), ErrorKind::Aborted);
        let record = fast.lookup(&key("job").into()).await.unwrap();
        let holders = record.map(|record| ids(&record.holders)).unwrap_or_default();
        assert_eq!(holders, others.iter().map(|other| other.lock_id).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn an_announcement_that_arrives_after_its_abandon_is_not_made() {
    let emulator = start().await;
    let (slow, fast) = (connect(&emulator), connect(&emulator));
    granted(&fast, &reader("job", LONG)).await;
    let writer = waiting_writer("job");
    let processed = emulator.inject(Fault::answer(Code::Unknown).document("job"));
    let (late, acquiring) = hold_in_flight(&emulator, &slow, &writer).await;
    acquiring.abort();
    assert!(acquiring.await.unwrap_err().is_cancelled());
    fast.abandon(writer.lock_id, &writer.key).await.unwrap();
    late.release();
    processed.happened(1).await;
    granted(&fast, &reader("job", LONG)).await;
}

/// The last reader leaves while the announcement is in flight, which leaves the counter as it was.
#[tokio::test]
async fn a_writer_whose_announcement_arrives_after_the_last_reader_left_is_granted() {
    let emulator = start().await;
    let (slow, fast) = (connect(&emulator), connect(&emulator));
    let (held, writer) = (reader("job", LONG), waiting_writer("job"));
    granted(&fast, &held).await;
    let (late, acquiring) = hold_in_flight(&emulator, &slow, &writer).await;
    assert!(released(&fast, &held).await);
    late.release();
    let outcome = acquiring.await.unwrap().unwrap();
    assert!(matches!(outcome, AcquireOutcome::Granted(_)), "{outcome:?}");
    let stored = Raw::connect(&emulator).read("locks/job").await.unwrap();
    assert!(!stored.contains_key("announcement"), "{stored:?}");
}

#[tokio::test]
async fn of_two_commits_that_rest_on_the_same_holders_one_is_decided_again() {
    let emulator = start().await;
    let (slow, fast) = (connect(&emulator), connect(&emulator));
    let one_of_two = || ask("job", LONG).with_mode(Mode::Shared { permits: NonZeroU32::new(2) });
    granted(&fast, &one_of_two()).await;
    let (late, acquiring) = hold_in_flight(&emulator, &slow, &one_of_two()).await;
    let last = one_of_two();
    granted(&fast, &last).await;
    late.release();
    let outcome = acquiring.await.unwrap().unwrap();
    assert!(matches!(outcome, AcquireOutcome::Contended { .. }), "a third permit: {outcome:?}");
    assert!(released(&fast, &last).await);
    // An announcement changes the lock alone.
    let writer = waiting_writer("job");
    let (late, acquiring) = hold_in_flight(&emulator, &slow, &one_of_two()).await;
    assert!(!matches!(fast.acquire(&writer).await.unwrap(), AcquireOutcome::Granted(_)));
    late.release();
    let outcome = acquiring.await.unwrap().unwrap();
    assert!(matches!(outcome, AcquireOutcome::Contended { .. }), "announced: {outcome:?}");
}

#[tokio::test]
async fn an_extend_of_a_reader_that_is_applied_after_its_expiry_is_undone_and_leaves_the_others() {
    let emulator = start().await;
    let (mine, theirs) = (connect(&emulator), connect(&emulator));
    for others_write in [false, true] {
        let (short, long) = (reader("job", Duration::from_secs(5)), reader("job", LONG * 5));
        granted(&mine, &short).await;
        granted(&theirs, &long).await;
        let late = emulator.inject(Fault::hold().document("job"));
        let extending = tokio::spawn({
            let (mine, lock) = (mine.clone(), lock_of(&short));
            async move { mine.extend(&lock, ttl(LONG)).await.unwrap() }
        });
        late.happened(1).await;
        emulator.set_clock_offset(ClockOffset::Ahead(if others_write { LONG } else { LONG / 2 }));
        // The commit that follows is to undo it.
        let undo = others_write.then(|| emulator.inject(Fault::hold().document("job")));
        late.release();
        if let Some(undo) = &undo {
            undo.happened(1).await;
            assert!(extended(&theirs, &long).await);
            undo.release();
        }
        let outcome = extending.await.unwrap();
        assert_eq!(outcome, ExtendOutcome::NotHeld(NotHeld::Expired));
        let record = theirs.lookup(&key("job").into()).await.unwrap().unwrap();
        assert_eq!(ids(&record.holders), [long.lock_id]);
        assert!(released(&theirs, &long).await);
    }
}

#[tokio::test]
async fn a_reader_that_was_granted_after_a_stale_read_holds_for_its_ttl() {
    let emulator = start().await;
    let backend = connect(&emulator);
    granted(&backend, &ask("clock", 60 * LONG)).await;
    let server_time =
        async || backend.lookup(&key("clock").into()).await.unwrap().unwrap().observed_at;
    for fault in [None, Some(Code::Unavailable), Some(Code::Aborted)] {
        let text = format!("{fault:?}");
        let stale = emulator.inject(Fault::stale(STALENESS).document(&text));
        let lost = fault.map(|code| emulator.inject(Fault::answer(code).document(&text)));
        let (before, request) = (server_time().await, reader(&text, LONG));
        let grant = granted(&backend, &request).await;
        assert!(stale.hits() == 1 && lost.is_none_or(|lost| lost.hits() == 1));
        assert!(grant.expires_at >= before.after(ttl(LONG)), "{grant:?} {before:?} {fault:?}");
        assert_eq!(granted(&connect(&emulator), &request).await, grant, "it is stored");
        assert!(released(&backend, &request).await);
    }
}

#[tokio::test]
async fn a_stale_read_admits_no_reader_beside_a_writer_and_no_writer_beside_a_reader() {
    let emulator = start().await;
    let (mine, theirs) = (connect(&emulator), connect(&emulator));
    let writer = ask("job", LONG);
    granted(&theirs, &writer).await;
    emulator.inject(Fault::stale(STALENESS).document("job"));
    let outcome = mine.acquire(&reader("job", LONG)).await.unwrap();
    assert!(matches!(outcome, AcquireOutcome::Contended { .. }), "{outcome:?}");
    assert!(released(&theirs, &writer).await);
    granted(&theirs, &reader("job", LONG)).await;
    emulator.inject(Fault::stale(STALENESS).document("job"));
    assert!(is_contended(&mine, "job").await && is_locked(&mine, "job").await);
}

#[tokio::test]
async fn every_operation_in_shared_mode_is_two_round_trips() {
    let emulator = start().await;
    let backend = connect(&emulator);
    let before = emulator.calls();
    let counted = || (emulator.calls() - before).total();
    let (one, other) = (reader("job", LONG), reader("job", LONG));
    granted(&backend, &one).await;
    granted(&backend, &other).await;
    assert_eq!(counted(), 4);
    assert!(extended(&backend, &one).await && released(&backend, &one).await);
    assert_eq!(counted(), 8);
    backend.abandon(other.lock_id, &other.key).await.unwrap();
    assert_eq!(counted(), 10);
    assert!(Raw::connect(&emulator).read("locks/job").await.is_none());
}
