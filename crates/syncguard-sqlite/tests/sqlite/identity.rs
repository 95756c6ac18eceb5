//! Files that are deleted or replaced while backends have them open.

use std::{fs, path::PathBuf};

use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
use syncguard_core::{
    ErrorKind, LockManager, ReleaseOutcome, Renew,
    backend::{AcquireOutcome, ExtendOutcome, LockBackend, Mode},
};
use syncguard_sqlite::{SqliteBackend, SqliteConfig};

use crate::{
    Scratch, acquire_and_release, acquire_error, granted, lock_of, release, request, ttl,
    until_the_files_are_checked_again,
};

/// The side files of a database with a write-ahead log.
const SIDE_FILES: [&str; 2] = ["locks.db-wal", "locks.db-shm"];

fn side_file(scratch: &Scratch, name: &str) -> PathBuf {
    let path = scratch.0.path().join(name);
    assert!(path.exists(), "{name} is not there to be deleted");
    path
}

/// Replaces a file by a copy.
fn replace(path: PathBuf) {
    let copy = path.with_extension("copy");
    fs::copy(&path, &copy).unwrap();
    fs::rename(copy, path).unwrap();
}

#[tokio::test]
async fn a_log_that_is_deleted_or_replaced_loses_every_lock_and_is_not_trusted_again() {
    let faults: [fn(PathBuf); 2] = [|path| fs::remove_file(path).unwrap(), replace];
    for fault in faults {
        for name in SIDE_FILES {
            let scratch = Scratch::new();
            let (backend, other) = (scratch.open().await, scratch.open().await);
            let guards = LockManager::new(backend.clone());
            let guard = guards.lock("guarded").renew(Renew::Never).acquire().await.unwrap();
            let held = request("held");
            granted(&other, &held).await;
            fault(side_file(&scratch, name));
            until_the_files_are_checked_again().await;
            let error = guard.extend(ttl(30_000)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Lost, "{name}: {error}");
            assert!(!guard.is_valid());
            let extended = other.extend(&lock_of(&held), ttl(30_000)).await.unwrap();
            assert!(matches!(extended, ExtendOutcome::NotHeld(_)), "{name}");
            let released = other.release(&lock_of(&held)).await.unwrap();
            assert!(matches!(released, ReleaseOutcome::NotHeld(_)), "{name}");
            let reopened =
                SqliteBackend::connect(SqliteConfig::new(scratch.path())).await.unwrap_err();
            for error in [acquire_error(&other, &request("free")).await, reopened] {
                assert_eq!(error.kind(), ErrorKind::Internal, "{name}: {error}");
                assert!(!error.may_have_applied(), "{name}: {error}");
                assert!(error.to_string().contains("restart"), "{name}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn a_deleted_log_is_not_checkpointed_by_backends_that_had_it_open() {
    let scratch = Scratch::new();
    acquire_and_release(&scratch.open().await, "key").await;
    let backend = scratch.open().await;
    // One backend detects the loss; the other is dropped before it can.
    let unaware = scratch.open().await;
    for number in 0..50 {
        acquire_and_release(&backend, &format!("key-{number}")).await;
    }
    let before = fs::read(scratch.path()).unwrap();
    fs::remove_file(side_file(&scratch, SIDE_FILES[0])).unwrap();
    drop(unaware);
    until_the_files_are_checked_again().await;
    acquire_error(&backend, &request("key")).await;
    drop(backend);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(fs::read(scratch.path()).unwrap() == before, "the old log was written into the file");
}

#[tokio::test]
async fn a_deleted_log_is_not_checkpointed_by_the_last_backend_that_had_it_open() {
    let scratch = Scratch::new();
    let unaware = scratch.open().await;
    for number in 0..50 {
        acquire_and_release(&unaware, &format!("key-{number}")).await;
    }
    let before = fs::read(scratch.path()).unwrap();
    fs::remove_file(side_file(&scratch, SIDE_FILES[0])).unwrap();
    drop(unaware);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(fs::read(scratch.path()).unwrap() == before, "the old log was written into the file");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_does_not_count_if_the_log_was_deleted_while_it_was_written() {
    const SLOW: &str = "
        CREATE TABLE slow (n INTEGER);
        CREATE TRIGGER slow AFTER INSERT ON syncguard_locks BEGIN
            INSERT INTO slow WITH RECURSIVE n (i) AS (
                SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000
            ) SELECT max(i) FROM n;
        END";
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let mut foreign = scratch.foreign().await;
    foreign.run(SLOW).await;
    foreign.run("PRAGMA busy_timeout = 0").await;
    let wanted = request("key");
    let acquiring = tokio::spawn({
        let (backend, wanted) = (backend.clone(), wanted.clone());
        async move { backend.acquire(&wanted).await }
    });
    while sqlx::raw_sql("BEGIN IMMEDIATE; ROLLBACK").execute(&mut foreign.0).await.is_ok() {
        tokio::task::yield_now().await;
    }
    fs::remove_file(side_file(&scratch, SIDE_FILES[0])).unwrap();
    assert!(!acquiring.is_finished(), "it was written before the log went away");
    let error = acquiring.await.unwrap().expect_err("a grant that no one else can see");
    assert!(error.may_have_applied(), "{error}");
    // The connection was opened by this process too, and must not checkpoint or delete the files.
    std::mem::forget(foreign);
}

#[tokio::test]
async fn a_restored_copy_ends_the_locks_that_it_contains_and_new_ones_are_granted() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let guards = LockManager::new(backend.clone());
    let guard = guards.lock("guarded").renew(Renew::Never).acquire().await.unwrap();
    let held = request("held");
    granted(&backend, &held).await;
    let shared = request("shared").with_mode(Mode::SHARED);
    granted(&backend, &shared).await;
    scratch.foreign().await.run("PRAGMA wal_checkpoint(TRUNCATE)").await;
    let copy = scratch.0.path().join("copy");
    fs::copy(scratch.path(), &copy).unwrap();
    for name in SIDE_FILES {
        fs::remove_file(side_file(&scratch, name)).unwrap();
    }
    fs::rename(copy, scratch.path()).unwrap();
    until_the_files_are_checked_again().await;
    for text in ["held", "shared"] {
        let outcome = scratch.open().await.acquire(&request(text)).await.unwrap();
        assert!(matches!(outcome, AcquireOutcome::Contended { .. }), "the copy has no locks");
    }
    let error = guard.extend(ttl(30_000)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
    for request in [&held, &shared] {
        let extended = backend.extend(&lock_of(request), ttl(30_000)).await.unwrap();
        assert!(matches!(extended, ExtendOutcome::NotHeld(_)));
    }
    // Grants from now on are held normally.
    let next = request("next");
    granted(&backend, &next).await;
    let extended = backend.extend(&lock_of(&next), ttl(30_000)).await.unwrap();
    assert!(matches!(extended, ExtendOutcome::Extended { .. }));
    release(&backend, &next).await;
}

#[tokio::test]
async fn a_file_with_two_hard_links_is_refused_before_and_after_it_was_opened() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let held = request("held");
    granted(&backend, &held).await;
    let alias = scratch.0.path().join("alias.db");
    fs::hard_link(scratch.path(), &alias).unwrap();
    until_the_files_are_checked_again().await;
    let mut errors = vec![
        acquire_error(&backend, &request("free")).await,
        backend.extend(&lock_of(&held), ttl(30_000)).await.unwrap_err(),
    ];
    for path in [scratch.path(), alias.clone()] {
        errors.push(SqliteBackend::connect(SqliteConfig::new(path)).await.unwrap_err());
    }
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(!error.may_have_applied(), "{error}");
        assert!(error.to_string().contains("hard link"), "{error}");
    }
    assert!(!scratch.0.path().join("alias.db-wal").exists());
    fs::remove_file(alias).unwrap();
    release(&backend, &held).await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_symbolic_link_leads_to_the_same_locks() {
    let scratch = Scratch::new();
    let link = scratch.0.path().join("link.db");
    std::os::unix::fs::symlink(scratch.path(), &link).unwrap();
    fs::write(scratch.path(), "").unwrap();
    // By the link first, so that the side files are located from there.
    let linked = SqliteBackend::connect(SqliteConfig::new(&link)).await.unwrap();
    let backend = scratch.open().await;
    let held = request("key");
    granted(&linked, &held).await;
    let outcome = backend.acquire(&request("key")).await.unwrap();
    assert!(matches!(outcome, AcquireOutcome::Contended { .. }), "two holders");
    release(&backend, &held).await;
    assert_eq!(acquire_and_release(&linked, "key").await, 2);
}

#[tokio::test]
async fn connections_that_close_leave_the_log_to_those_that_stay_open() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let held = request("key");
    granted(&backend, &held).await;
    for number in 0..20 {
        let options = SqliteConnectOptions::new().filename(scratch.path());
        drop(options.connect().await.unwrap());
        acquire_and_release(&scratch.open().await, &format!("{number}")).await;
        let extended = backend.extend(&lock_of(&held), ttl(30_000)).await.unwrap();
        assert!(matches!(extended, ExtendOutcome::Extended { .. }), "round {number}");
    }
}
