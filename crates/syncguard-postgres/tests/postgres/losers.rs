//! What clients that lose a race for a key leave behind.

use std::time::Duration;

use syncguard_core::{
    LockId, LockManager,
    backend::{AcquireOutcome, LockBackend},
};
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::{
    operations::{LONG, ask, eventually, granted, released},
    proxy::{Flow, Occurrences, Proxy},
};

use crate::{
    Foreign, Names,
    network::SYNC,
    queueing::{hold_turn, queued},
    shared,
    storm::{TRY, acquire_by, acquire_text},
};

const CLIENTS: usize = 16;
const GRANTS: usize = 480;

/// A part of the text that waits for a decision.
const WAIT: &str = "pg_advisory_xact_lock_shared";

/// The maximum number of lost fences: a grant that is rolled back or abandoned loses one.
const SPARE: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_clients_that_contend_for_a_key_lose_few_fences() {
    let (server, names) = (shared().await, Names::fresh());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let locks = LockManager::new(names.connect(&server.url()).await);
        tasks.spawn(async move {
            for _ in 0..GRANTS / CLIENTS {
                let guard = locks.lock("job").ttl(LONG).wait(LONG).acquire().await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
                guard.release().await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let sql = format!("SELECT fence FROM {}", names.counters);
    let fences = Foreign::open(&server.url()).await.number(&sql).await;
    let fences = usize::try_from(fences).unwrap();
    assert!((GRANTS..=GRANTS + SPARE).contains(&fences), "{fences} fences for {GRANTS} grants");
}

/// Attempts that queue while another client is granted the key have an outdated snapshot when their
/// wait ends.
#[tokio::test]
async fn an_attempt_that_waited_for_another_clients_grant_writes_nothing() {
    let (server, names) = (shared().await, Names::fresh());
    let backend = names.connect(&server.url()).await;
    let text = format!("job of {}", names.locks);
    granted(&backend, &ask("warm-up", LONG)).await;
    let mut winner = hold_turn(&server, &text).await;
    let late = tokio::spawn({
        let (backend, request) = (backend.clone(), ask(&text, LONG));
        async move { backend.acquire(&request).await }
    });
    queued(&server, 1).await;
    let (locks, counters) = (&names.locks, &names.counters);
    winner.run(&format!("INSERT INTO {counters} VALUES ('fence:{text}', 1, '')")).await;
    let row = format!("'{text}', 'abcdefghijklmnopqrstuv', 9e15, 1, '000000000000001', '{text}'");
    winner.run(&format!("INSERT INTO {locks} VALUES ({row})")).await;
    let mut watcher = Foreign::open(&server.url()).await;
    winner.run("COMMIT").await;
    let outcome = late.await.unwrap().unwrap();
    let AcquireOutcome::Contended { holder: Some(holder) } = outcome else { panic!("{outcome:?}") };
    assert_eq!(holder.fence.unwrap().number(), 1);
    let sql = format!("SELECT fence FROM {counters} WHERE fence_key = 'fence:{text}'");
    assert_eq!(watcher.number(&sql).await, 1, "no fence is lost");
    let rewritten = format!(
        "SELECT count(*) FROM {locks}, {counters}
        WHERE {locks}.xmax <> 0 OR {counters}.xmax <> 0"
    );
    assert_eq!(watcher.number(&rewritten).await, 0, "no row was even locked");
}

/// Texts of several statements are planned each time. An attempt that is late by a moment must not
/// send one.
#[tokio::test]
async fn a_late_attempt_sends_another_lookup_before_it_waits_for_the_decision() {
    let (server, names) = (shared().await, Names::fresh());
    let proxy = Proxy::start(server.address()).await.unwrap();
    let backend = names.connect(&server.url_through(proxy.address())).await;
    let text = format!("job of {}", names.locks);
    // The first time, each statement is prepared.
    let mut before_waiting = 0;
    for _ in 0..2 {
        let statements = proxy.tally(Flow::Requests, || Occurrences::of(SYNC));
        let scripts = proxy.tally(Flow::Requests, || Occurrences::of(WAIT));
        let winner = hold_turn(&server, &text).await;
        let late = tokio::spawn({
            let (backend, request) = (backend.clone(), ask(&text, LONG));
            async move { (backend.acquire(&request).await, request) }
        });
        eventually("it waits", async || scripts.total() == 1).await;
        before_waiting = statements.total();
        drop(winner);
        let (outcome, request) = late.await.unwrap();
        assert!(matches!(outcome.unwrap(), AcquireOutcome::Granted(_)), "nobody was granted it");
        assert!(released(&backend, &request).await);
    }
    assert_eq!(before_waiting, 2, "the attempt and a look");
}

/// The statement alone, changed to wait for the advisory lock: its snapshot is older than the wait.
#[tokio::test]
async fn a_statement_with_an_outdated_snapshot_counts_no_fence() {
    let (server, names) = (shared().await, Names::fresh());
    PostgresBackend::setup_schema(&names.config(&server.url())).await.unwrap();
    let text = format!("job of {}", names.locks);
    let mut winner = hold_turn(&server, &text).await;
    let waits = "pg_advisory_xact_lock(hashtext($1))::text IS NOT NULL";
    let late = tokio::spawn({
        let acquire = acquire_text(&names).replace(TRY, waits);
        let (text, mut foreign) = (text.clone(), Foreign::open(&server.url()).await);
        async move { acquire_by(&mut foreign, &acquire, &text, LockId::mint().unwrap()).await }
    });
    queued(&server, 1).await;
    // It grants the key and releases it again, so that no row prevents the grant.
    let counters = &names.counters;
    winner.run(&format!("INSERT INTO {counters} VALUES ('fence:{text}', 1); COMMIT")).await;
    assert_eq!(late.await.unwrap(), None, "it cannot know whether the key is free");
    assert_eq!(winner.number(&format!("SELECT fence FROM {counters}")).await, 1);
}
