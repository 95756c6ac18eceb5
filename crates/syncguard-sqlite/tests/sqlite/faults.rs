use std::time::{Duration, Instant};

use syncguard_core::{
    ErrorKind,
    backend::{AcquireOutcome, LockBackend},
};
use syncguard_sqlite::{SqliteBackend, SqliteConfig};

use crate::{
    Scratch, acquire_and_release, acquire_error, granted, key, lock_of, release, request, ttl,
    until_the_files_are_checked_again,
};

#[tokio::test]
async fn a_database_that_stays_busy_is_unavailable_and_nothing_was_applied() {
    let scratch = Scratch::new();
    let backend = scratch.open_with_short_timeout().await;
    let held = request("held");
    granted(&backend, &held).await;
    let mut foreign = scratch.foreign().await;
    foreign.block_writers().await;
    let wanted = request("patient:jane-doe");
    let acquired = acquire_error(&backend, &wanted).await;
    let extended = backend.extend(&lock_of(&held), ttl(1_000)).await.unwrap_err();
    let released = backend.release(&lock_of(&held)).await.unwrap_err();
    let abandoned = backend.abandon(held.lock_id, &held.key).await.unwrap_err();
    for error in [acquired, extended, released, abandoned] {
        assert_eq!(error.kind(), ErrorKind::ServiceUnavailable, "{error}");
        assert!(error.is_retryable() && !error.may_have_applied(), "{error}");
        assert!(!format!("{error} {error:?}").contains("jane"), "{error:?}");
    }
    foreign.unblock_writers().await;
    assert_eq!(granted(&backend, &wanted).await.fence.number(), 1, "no fence was used up");
    release(&backend, &held).await;
}

#[tokio::test]
async fn requests_that_queue_for_a_busy_database_time_out_with_the_first() {
    let scratch = Scratch::new();
    let (backend, other) =
        (scratch.open_with_short_timeout().await, scratch.open_with_short_timeout().await);
    let mut foreign = scratch.foreign().await;
    foreign.block_writers().await;
    let mut waiting = tokio::task::JoinSet::new();
    for task in 0..20 {
        let backend = backend.clone();
        waiting.spawn(async move { acquire_error(&backend, &request(&format!("{task}"))).await });
    }
    // If each request waited the whole timeout after its turn began, they would take twice as long
    // as these.
    let one_by_one = async {
        for number in 0..10 {
            acquire_error(&other, &request(&format!("other {number}"))).await;
        }
    };
    let errors = tokio::select! {
        biased;
        errors = waiting.join_all() => errors,
        () = one_by_one => panic!("they queue for longer than their head"),
    };
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::ServiceUnavailable, "{error}");
        assert!(!error.may_have_applied(), "{error}");
    }
    foreign.unblock_writers().await;
    assert_eq!(foreign.number("SELECT count(*) FROM syncguard_locks").await, 0);
}

/// Drops an operation that takes longer than `limit`, which may be microseconds.
async fn drop_after<T>(limit: Duration, operation: impl Future<Output = T>) -> bool {
    let start = Instant::now();
    let timer = async {
        while start.elapsed() < limit {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        _ = operation => false,
        () = timer => true,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_that_are_dropped_anywhere_leave_the_connections_usable() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let mut drops = 0;
    for round in 0..300 {
        let request = request(&format!("{}", round % 7));
        let limit = Duration::from_micros(round * 2);
        drops += u32::from(drop_after(limit, backend.acquire(&request)).await);
        drops += u32::from(drop_after(limit / 3, backend.release(&lock_of(&request))).await);
        backend.abandon(request.lock_id, &request.key).await.unwrap();
        assert!(!backend.is_locked(&request.key).await.unwrap(), "round {round} left a ghost");
    }
    assert!(drops > 50, "only {drops} were dropped");
    // A transaction that was left open would hold the write lock, or hide the commit from other
    // connections.
    scratch.foreign().await.run("BEGIN IMMEDIATE; ROLLBACK").await;
    let held = request("key");
    granted(&backend, &held).await;
    assert!(scratch.open().await.is_locked(&held.key).await.unwrap());
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_was_replaced_is_no_longer_used() {
    let scratch = Scratch::new();
    let old = scratch.open().await;
    let lost = request("key");
    granted(&old, &lost).await;
    for file in std::fs::read_dir(scratch.0.path()).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    until_the_files_are_checked_again().await;
    let new = scratch.open().await;
    granted(&new, &request("key")).await;
    let outcome = old.acquire(&request("key")).await.unwrap();
    assert!(matches!(outcome, AcquireOutcome::Contended { .. }), "two holders");
    let extended = old.extend(&lock_of(&lost), ttl(1_000)).await.unwrap();
    assert!(matches!(extended, syncguard_core::backend::ExtendOutcome::NotHeld(_)));
}

#[tokio::test]
async fn a_damaged_file_is_an_internal_error_that_names_the_file_and_no_key() {
    use std::io::{Seek, SeekFrom, Write};

    let scratch = Scratch::new();
    acquire_and_release(&scratch.open().await, "patient:jane-doe").await;
    let mut foreign = scratch.foreign().await;
    foreign.run("PRAGMA wal_checkpoint(TRUNCATE)").await;
    let pages = foreign.number("PRAGMA page_count").await;
    let size = foreign.number("PRAGMA page_size").await;
    drop(foreign);
    let mut file = std::fs::OpenOptions::new().write(true).open(scratch.path()).unwrap();
    file.seek(SeekFrom::Start(u64::try_from(size).unwrap())).unwrap();
    file.write_all(&vec![0xff; usize::try_from((pages - 1) * size).unwrap()]).unwrap();
    drop(file);
    let error = match SqliteBackend::connect(SqliteConfig::new(scratch.path())).await {
        Ok(backend) => acquire_error(&backend, &request("patient:jane-doe")).await,
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    assert!(!error.may_have_applied());
    assert!(error.to_string().contains("locks.db"), "{error}");
    assert!(!format!("{error} {error:?}").contains("jane"), "{error:?}");
}

#[tokio::test]
async fn a_connection_that_failed_is_replaced() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let mut foreign = scratch.foreign().await;
    foreign.run("ALTER TABLE syncguard_locks RENAME TO hidden").await;
    let error = backend.is_locked(&key("key")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    foreign.run("ALTER TABLE hidden RENAME TO syncguard_locks").await;
    assert_eq!(acquire_and_release(&backend, "key").await, 1);
}
