//! Creating, checking, changing and pruning the tables.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use syncguard_core::{
    ErrorKind,
    backend::{LockBackend, Severity},
};
use tokio::task::JoinSet;

use super::{Foreign, Setting, Tables};
use crate::operations::{LONG, ask, error_of, granted, is_locked, released};

/// Reads the recorded revision: the lowest version of a client, and the revision.
pub async fn recorded<T: Tables>(foreign: &mut T::Foreign, tables: &T) -> (i64, i64) {
    let read =
        |column: &str| tables.fill(&format!("SELECT {column} FROM {{locks}}_schema WHERE id = 1"));
    (foreign.number(&read("version")).await, foreign.number(&read("revision")).await)
}

/// Acquires and releases a key, and returns the fence.
pub async fn acquire_and_release(backend: &impl LockBackend, text: &str) -> u64 {
    let request = ask(text, LONG);
    let grant = granted(backend, &request).await;
    assert!(released(backend, &request).await);
    grant.fence.number()
}

/// Many clients can create the tables concurrently.
pub async fn many_clients_can_create_the_tables_concurrently<T: Tables>() {
    let server = T::shared().await;
    for _ in 0..5 {
        let tables = T::fresh();
        let mut clients = JoinSet::new();
        for number in 0..12 {
            let config = tables.config(&server.url(), &[]);
            clients.spawn(async move {
                let backend = T::open(config.clone()).await.unwrap();
                T::setup_schema(&config).await.unwrap();
                granted(&backend, &ask(&format!("k{number}"), LONG)).await
            });
        }
        assert!(clients.join_all().await.iter().all(|grant| grant.fence.number() == 1));
    }
}

/// An error about missing tables explains how to create them.
pub async fn an_error_about_missing_tables_explains_how_to_create_them<T: Tables>() {
    let (server, tables) = (T::shared().await, T::fresh());
    let existing = tables.config(&server.url(), &[Setting::ExistingTablesOnly]);
    let error = error_of(T::open(existing.clone()).await.map(drop), ErrorKind::Internal);
    assert!(error.to_string().contains("setup_schema"), "{error}");
    T::setup_schema(&existing).await.unwrap();
    let backend = T::open(existing).await.unwrap();
    T::Foreign::open(&server.url()).await.run(&tables.fill("DROP TABLE {locks}")).await;
    let error = error_of(backend.acquire(&ask("job", LONG)).await, ErrorKind::Internal);
    assert!(error.to_string().contains("setup_schema") && !error.may_have_applied(), "{error}");
    let findings = backend.check().await.unwrap();
    assert!(findings.iter().any(|finding| finding.severity == Severity::Unsafe), "{findings:?}");
    T::setup_schema(&tables.config(&server.url(), &[])).await.unwrap();
    granted(&backend, &ask("job", LONG)).await;
}

/// The text of `schema_sql` can be run repeatedly.
pub async fn the_text_of_schema_sql_can_be_run_repeatedly<T: Tables>() {
    let server = T::shared().await;
    let config = T::fresh().config(&server.url(), &[Setting::ExistingTablesOnly]);
    let mut foreign = T::Foreign::open(&server.url()).await;
    for _ in 0..3 {
        foreign.run(&T::schema_sql(&config)).await;
    }
    granted(&T::open(config).await.unwrap(), &ask("job", LONG)).await;
}

/// Tables that require a later client are refused and left unchanged, even without the locks.
pub async fn tables_that_require_a_later_client_are_refused_and_left_unchanged<T: Tables>() {
    let (server, tables) = (T::shared().await, T::fresh());
    let backend = tables.connect(&server.url()).await;
    let mut foreign = T::Foreign::open(&server.url()).await;
    assert_eq!(recorded(&mut foreign, &tables).await, (1, T::REVISION));
    let (known, least) = (T::REVISION, T::REVISION + 1);
    let later = format!("UPDATE {{locks}}_schema SET version = {least}, revision = {least} + 1");
    foreign.run(&tables.fill(&later)).await;
    let config = |settings: &[Setting]| tables.config(&server.url(), settings);
    for dropped in [false, true] {
        if dropped {
            foreign.run(&tables.fill("DROP TABLE {locks}")).await;
        }
        for refused in [
            T::open(config(&[])).await.map(drop),
            T::open(config(&[Setting::ExistingTablesOnly])).await.map(drop),
            T::setup_schema(&config(&[])).await,
            backend.check().await.map(drop),
        ] {
            let error = error_of(refused, ErrorKind::Unsupported);
            assert!(!error.may_have_applied());
            let text = error.to_string();
            assert!(text.contains(&format!("version {least}")), "{text}");
            assert!(text.contains(&format!("version {known}")), "{text}");
        }
    }
    assert_eq!(recorded(&mut foreign, &tables).await, (least, least + 1));
}

/// Later tables that this client may use are used and not downgraded.
pub async fn later_tables_that_this_client_may_use_are_used_and_not_downgraded<T: Tables>() {
    let (server, tables) = (T::shared().await, T::fresh());
    tables.connect(&server.url()).await;
    let mut foreign = T::Foreign::open(&server.url()).await;
    foreign.run(&tables.fill("UPDATE {locks}_schema SET version = 2, revision = 9")).await;
    foreign.run(&tables.fill("ALTER TABLE {locks} ADD COLUMN future text")).await;
    let backend = tables.connect(&server.url()).await;
    let config = tables.config(&server.url(), &[]);
    T::setup_schema(&config).await.unwrap();
    foreign.run(&T::schema_sql(&config)).await;
    assert_eq!(acquire_and_release(&backend, "job").await, 1);
    assert_eq!(recorded(&mut foreign, &tables).await, (2, 9));
}

/// Pruning removes only grants that ended long ago.
pub async fn pruning_removes_only_grants_that_ended_long_ago<T: Tables>() {
    let (server, tables) = (T::shared().await, T::fresh());
    let backend = tables.connect(&server.url()).await;
    let mut foreign = T::Foreign::open(&server.url()).await;
    let requests = ["held", "over", "long over"].map(|text| ask(text, LONG));
    for request in &requests {
        granted(&backend, request).await;
    }
    for (text, ago) in [("over", 120_000), ("long over", 7_260_000)] {
        let age = "UPDATE {locks} SET expires_at_ms = expires_at_ms - ";
        foreign.run(&tables.fill(&format!("{age} {ago} WHERE {{key}} = '{text}'"))).await;
    }
    let (fresh, old) = (ask("a", LONG), ask("b", LONG));
    for request in [&fresh, &old] {
        backend.abandon(request.lock_id, &request.key).await.unwrap();
    }
    let age = "UPDATE {locks} SET acquired_at_ms = acquired_at_ms - 7200000 WHERE lock_id = ";
    foreign.run(&tables.fill(&format!("{age} '{}'", old.lock_id.as_str()))).await;

    assert_eq!(
        T::prune(&backend, Duration::from_secs(3_600)).await.unwrap(),
        2,
        "the row and the old tombstone"
    );
    assert_eq!(T::prune(&backend, Duration::ZERO).await.unwrap(), 1, "the other row");
    assert!(is_locked(&backend, "held").await);
    error_of(backend.acquire(&fresh).await, ErrorKind::Aborted);
    assert_eq!(granted(&backend, &ask("long over", LONG)).await.fence.number(), 2);
    assert_eq!(T::prune(&backend, Duration::MAX).await.unwrap(), 0);
}
