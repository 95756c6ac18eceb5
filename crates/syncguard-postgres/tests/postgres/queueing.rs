//! Statements that wait for each other inside the server.

use std::time::Duration;

use syncguard_core::{ErrorKind, Timestamp, backend::LockBackend};
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::{
    operations::{LONG, ask, error_of, eventually, extended, granted, is_locked, released},
    server::PostgresServer,
};

use crate::{Foreign, Names, shared};

/// Reads the server's clock.
const NOW_MS: &str = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// Takes the advisory lock by which acquires of the key queue.
pub(crate) async fn hold_turn(server: &PostgresServer, text: &str) -> Foreign {
    let mut foreign = Foreign::open(&server.url()).await;
    foreign.run(&format!("BEGIN; SELECT pg_advisory_xact_lock(hashtext('{text}'))")).await;
    foreign
}

/// Waits until this many statements queue for an advisory lock.
pub(crate) async fn queued(server: &PostgresServer, count: i64) {
    let mut foreign = Foreign::open(&server.url()).await;
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    eventually("statements queue", async || foreign.number(waiting).await >= count).await;
}

/// Locks the row of the key's counter, so that an acquire waits in the middle of its write.
pub(crate) async fn hold_counter(server: &PostgresServer, names: &Names, text: &str) -> Foreign {
    let (mut foreign, counters) = (Foreign::open(&server.url()).await, &names.counters);
    let row = format!("INSERT INTO {counters} VALUES ('fence:{text}') ON CONFLICT DO NOTHING");
    foreign.run(&row).await;
    let lock = format!("SELECT 1 FROM {counters} WHERE fence_key = 'fence:{text}' FOR UPDATE");
    foreign.run(&format!("BEGIN; {lock}")).await;
    foreign
}

/// Waits until a statement waits for the end of another transaction.
pub(crate) async fn blocked(server: &PostgresServer) {
    let mut watcher = Foreign::open(&server.url()).await;
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted";
    eventually("it waits", async || watcher.number(waiting).await > 0).await;
}

#[tokio::test]
async fn the_clock_is_read_after_the_wait() {
    let (server, names) = (shared().await, Names::fresh());
    let backend = names.connect(&server.url()).await;
    let text = format!("job of {}", names.locks);
    for extend in [false, true] {
        let held = ask(&text, LONG);
        if extend {
            granted(&backend, &held).await;
        }
        let mut turn = hold_turn(&server, &text).await;
        let asking = tokio::spawn({
            let (backend, held) = (backend.clone(), held.clone());
            async move {
                match extend {
                    true => assert!(extended(&backend, &held).await),
                    false => drop(granted(&backend, &held).await),
                }
            }
        });
        queued(&server, 1).await;
        // A time that was read before the wait is at least this old by now.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let free = Timestamp::from_unix_millis(turn.number(NOW_MS).await);
        turn.run("COMMIT").await;
        asking.await.unwrap();
        let record = backend.lookup(&held.lock_id.into()).await.unwrap().unwrap();
        let counted_from =
            record.expires_at.unix_millis() - i64::try_from(LONG.as_millis()).unwrap();
        assert!(counted_from >= free.unix_millis(), "{counted_from} is before {free}");
        assert!(extend || record.acquired_at >= free, "{} is before {free}", record.acquired_at);
        assert!(released(&backend, &held).await);
    }
}

#[tokio::test]
async fn a_statement_that_waits_too_long_fails_and_changes_nothing() {
    let (server, names) = (shared().await, Names::fresh());
    let (short, longer) = (Duration::from_millis(200), Duration::from_millis(400));
    let text = format!("job of {}", names.locks);
    let config = || names.config(&server.url());
    for (config, kind) in [
        (config().lock_timeout(short).statement_timeout(longer), ErrorKind::ServiceUnavailable),
        (config().lock_timeout(LONG).statement_timeout(short), ErrorKind::NetworkTimeout),
        (config().pgbouncer().lock_timeout(short), ErrorKind::ServiceUnavailable),
    ] {
        let backend = PostgresBackend::connect(config).await.unwrap();
        let mut turn = hold_turn(&server, &text).await;
        let error = error_of(backend.acquire(&ask(&text, LONG)).await, kind);
        assert!(!error.may_have_applied() && error.is_retryable(), "{error:?}");
        turn.run("COMMIT").await;
        assert!(!is_locked(&backend, &text).await);
    }
    let backend = PostgresBackend::connect(config()).await.unwrap();
    assert_eq!(granted(&backend, &ask(&text, LONG)).await.fence.number(), 1);
}

/// Dropping the future does not stop the statement, so its id must be abandoned.
#[tokio::test]
async fn an_acquire_that_was_dropped_while_it_wrote_is_rejected_once_its_id_is_abandoned() {
    let (server, names) = (shared().await, Names::fresh());
    let backend = names.connect(&server.url()).await;
    let text = format!("job of {}", names.locks);
    for abandoned in [false, true] {
        let mut counter = hold_counter(&server, &names, &text).await;
        let request = ask(&text, LONG);
        let asking = tokio::spawn({
            let (backend, request) = (backend.clone(), request.clone());
            async move { backend.acquire(&request).await }
        });
        blocked(&server).await;
        asking.abort();
        if abandoned {
            backend.abandon(request.lock_id, &request.key).await.unwrap();
        }
        counter.run("ROLLBACK").await;
        if abandoned {
            // The acquire holds the advisory lock of the key until it ends.
            drop(hold_turn(&server, &text).await);
            assert!(!is_locked(&backend, &text).await);
            error_of(backend.acquire(&request).await, ErrorKind::Aborted);
        } else {
            eventually("it is granted all the same", async || is_locked(&backend, &text).await)
                .await;
            assert!(released(&backend, &request).await);
        }
    }
    assert_eq!(granted(&backend, &ask(&text, LONG)).await.fence.number(), 2, "one was rolled back");
}

#[tokio::test]
async fn an_acquire_that_was_dropped_while_it_queued_is_not_sent() {
    let (server, names) = (shared().await, Names::fresh());
    let backend = names.connect(&server.url()).await;
    let text = format!("job of {}", names.locks);
    let turn = hold_turn(&server, &text).await;
    let asking = tokio::spawn({
        let (backend, request) = (backend.clone(), ask(&text, LONG));
        async move { backend.acquire(&request).await }
    });
    queued(&server, 1).await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    drop(turn);
    drop(hold_turn(&server, &text).await);
    assert_eq!(granted(&backend, &ask(&text, LONG)).await.fence.number(), 1);
}

#[tokio::test]
async fn an_abandon_waits_for_a_grant_that_is_being_committed() {
    let (server, names) = (shared().await, Names::fresh());
    let backend = names.connect(&server.url()).await;
    let request = ask("job", LONG);
    let mut foreign = Foreign::open(&server.url()).await;
    let id = request.lock_id.as_str();
    // This is what an acquire has written and not yet committed.
    let row = format!("'job', '{id}', 9000000000000000, 1, '000000000000001', 'job'");
    foreign.run(&format!("BEGIN; INSERT INTO {} VALUES ({row})", names.locks)).await;
    let abandon = tokio::spawn({
        let (backend, request) = (backend.clone(), request.clone());
        async move { backend.abandon(request.lock_id, &request.key).await }
    });
    blocked(&server).await;
    assert!(!abandon.is_finished());
    foreign.run("COMMIT").await;
    abandon.await.unwrap().unwrap();
    assert!(!is_locked(&backend, "job").await);
    error_of(backend.acquire(&request).await, ErrorKind::Aborted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abandons_and_acquires_of_one_id_never_deadlock_and_leave_no_grant() {
    let (server, names) = (shared().await, Names::fresh());
    let backend = names.connect(&server.url()).await;
    // Some keys are free, some have an expired row, and each id is abandoned twice concurrently.
    for round in 0..200 {
        let request = ask(&format!("k{}", round % 3), LONG);
        let (one, two, acquired) = tokio::join!(
            backend.abandon(request.lock_id, &request.key),
            backend.abandon(request.lock_id, &request.key),
            backend.acquire(&request),
        );
        one.unwrap();
        two.unwrap();
        if let Err(error) = acquired {
            assert_eq!(error.kind(), ErrorKind::Aborted, "{error:?}");
        }
        assert!(!is_locked(&backend, request.key.as_str()).await, "round {round}");
        let over = format!(
            "INSERT INTO {} VALUES ('k{}', 'over {round}', 1, 1, '000000000000000', 'k')
             ON CONFLICT (key) DO NOTHING",
            names.locks,
            (round + 1) % 3
        );
        Foreign::open(&server.url()).await.run(&over).await;
    }
}
