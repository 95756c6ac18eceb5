use std::time::Duration;

use syncguard_core::{ErrorKind, backend::LockBackend};
use syncguard_sqlite::{SqliteBackend, SqliteConfig};

use crate::{Scratch, acquire_and_release};

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_may_open_a_fresh_file_at_once() {
    let scratch = Scratch::new();
    let mut opening = tokio::task::JoinSet::new();
    for task in 0..16 {
        let path = scratch.path();
        opening.spawn(async move {
            let backend = SqliteBackend::connect(SqliteConfig::new(path)).await.unwrap();
            acquire_and_release(&backend, &format!("key-{task}")).await
        });
    }
    assert_eq!(opening.join_all().await, [1; 16]);
    let mut foreign = scratch.foreign().await;
    assert_eq!(foreign.number("SELECT count(*) FROM syncguard_schema").await, 1);
    assert_eq!(foreign.number("SELECT count(*) FROM syncguard_locks").await, 16);
}

#[tokio::test]
async fn a_missing_directory_is_reported_and_not_created() {
    let scratch = Scratch::new();
    let path = scratch.0.path().join("nowhere").join("locks.db");
    let error = SqliteBackend::connect(SqliteConfig::new(&path)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ServiceUnavailable, "{error}");
    assert!(!error.may_have_applied());
    assert!(error.to_string().contains("nowhere"), "{error}");
    assert!(!path.parent().unwrap().exists());
}

#[tokio::test]
async fn a_directory_in_place_of_the_file_is_reported() {
    let scratch = Scratch::new();
    let error = SqliteBackend::connect(SqliteConfig::new(scratch.0.path())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ServiceUnavailable, "{error}");
}

#[tokio::test]
async fn an_in_memory_database_is_refused() {
    let error = SqliteBackend::connect(SqliteConfig::new(":memory:")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
}

#[tokio::test]
async fn a_missing_file_is_not_created_if_only_existing_files_are_allowed() {
    let scratch = Scratch::new();
    let config = SqliteConfig::new(scratch.path()).existing_only();
    let error = SqliteBackend::connect(config.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ServiceUnavailable, "{error}");
    assert!(!scratch.path().exists());
    scratch.open().await;
    SqliteBackend::connect(config).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_not_a_database_is_named_in_the_error() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path(), "no database ".repeat(100)).unwrap();
    let error = SqliteBackend::connect(SqliteConfig::new(scratch.path())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    assert!(!error.may_have_applied());
    assert!(error.to_string().contains("locks.db"), "{error}");
    assert_eq!(std::fs::read(scratch.path()).unwrap(), "no database ".repeat(100).as_bytes());
}

#[tokio::test]
async fn the_tables_coexist_with_those_of_an_application() {
    let scratch = Scratch::new();
    let mut application = scratch.foreign().await;
    application.run("CREATE TABLE orders (id INTEGER); PRAGMA user_version = 37").await;
    let backend = scratch.open().await;
    assert_eq!(acquire_and_release(&backend, "order:1").await, 1);
    assert_eq!(application.number("PRAGMA user_version").await, 37);
    application.run("INSERT INTO orders VALUES (1)").await;
}

#[tokio::test]
async fn a_creation_that_times_out_leaves_nothing_behind() {
    for stage in ["PRAGMA journal_mode = DELETE", "PRAGMA journal_mode = WAL"] {
        let scratch = Scratch::new();
        let mut foreign = scratch.foreign().await;
        foreign.run(stage).await;
        foreign.block_writers().await;
        let config = SqliteConfig::new(scratch.path()).busy_timeout(Duration::ZERO);
        let error = SqliteBackend::connect(config).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ServiceUnavailable, "{error}");
        assert!(!error.may_have_applied());
        foreign.unblock_writers().await;
        assert_eq!(foreign.number("SELECT count(*) FROM sqlite_schema").await, 0);
        assert_eq!(acquire_and_release(&scratch.open().await, "key").await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_waits_for_a_database_that_is_busy() {
    for stage in ["PRAGMA journal_mode = DELETE", "PRAGMA journal_mode = WAL"] {
        let scratch = Scratch::new();
        let mut foreign = scratch.foreign().await;
        foreign.run(stage).await;
        foreign.block_writers().await;
        let opening = tokio::spawn(SqliteBackend::connect(SqliteConfig::new(scratch.path())));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!opening.is_finished(), "the write lock was not in the way");
        foreign.unblock_writers().await;
        assert_eq!(acquire_and_release(&opening.await.unwrap().unwrap(), "key").await, 1);
    }
}

#[tokio::test]
async fn a_check_of_a_local_file_finds_nothing_unsafe() {
    let scratch = Scratch::new();
    let findings = scratch.open().await.check().await.unwrap();
    let worst = findings.iter().map(|finding| finding.severity).max();
    assert!(worst < Some(syncguard_core::backend::Severity::Unsafe), "{findings:?}");
}

#[tokio::test]
async fn the_counter_outlives_the_backend() {
    let scratch = Scratch::new();
    assert_eq!(acquire_and_release(&scratch.open().await, "key").await, 1);
    assert_eq!(acquire_and_release(&scratch.open().await, "key").await, 2);
}

#[tokio::test]
async fn debug_output_contains_the_path_of_the_file_and_no_key() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    acquire_and_release(&backend, "patient:jane-doe").await;
    let text = format!("{backend:?}");
    assert!(text.contains("locks.db") && !text.contains("jane"), "{text}");
}
