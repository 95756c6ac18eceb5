//! The tables: made, found, named and cleaned up.

use std::time::Duration;

use syncguard_core::UnsafeSettings;
use syncguard_core::{ErrorKind, LockBackend, Severity};
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::operations::{LONG, ask, error_of, granted, is_locked, released};

use crate::{Foreign, Names, config, shared, typescript::with_names};

#[tokio::test]
async fn many_clients_that_come_at_once_make_the_tables_together() {
    let server = shared().await;
    for _ in 0..5 {
        let names = Names::fresh();
        let mut clients = tokio::task::JoinSet::new();
        for number in 0..12 {
            let (names, url) = (names.clone(), server.url());
            clients.spawn(async move {
                let backend = names.connect(&url).await;
                PostgresBackend::setup_schema(&names.config(&url)).await.unwrap();
                granted(&backend, &ask(&format!("k{number}"), LONG)).await
            });
        }
        assert!(clients.join_all().await.iter().all(|grant| grant.fence.number() == 1));
    }
}

#[tokio::test]
async fn without_tables_an_error_says_how_to_get_them() {
    let (server, names) = (shared().await, Names::fresh());
    let existing = names.config(&server.url()).existing_tables_only();
    let error = error_of(PostgresBackend::connect(existing.clone()).await, ErrorKind::Internal);
    assert!(error.to_string().contains("setup_schema"), "{error}");
    PostgresBackend::setup_schema(&existing).await.unwrap();
    let backend = PostgresBackend::connect(existing).await.unwrap();
    Foreign::open(&server.url()).await.run(&format!("DROP TABLE {}", names.locks)).await;
    let error = error_of(backend.acquire(&ask("job", LONG)).await, ErrorKind::Internal);
    assert!(error.to_string().contains("setup_schema") && !error.may_have_applied(), "{error}");
    let findings = backend.check().await.unwrap();
    assert!(findings.iter().any(|finding| finding.severity == Severity::Unsafe), "{findings:?}");
    PostgresBackend::setup_schema(&names.config(&server.url())).await.unwrap();
    granted(&backend, &ask("job", LONG)).await;
}

#[tokio::test]
async fn what_schema_sql_gives_can_be_run_again_and_again() {
    let (server, names) = (shared().await, Names::fresh());
    let config = names.config(&server.url()).existing_tables_only();
    let mut foreign = Foreign::open(&server.url()).await;
    for _ in 0..3 {
        foreign.run(&config.schema_sql().unwrap()).await;
    }
    granted(&PostgresBackend::connect(config).await.unwrap(), &ask("job", LONG)).await;
}

#[tokio::test]
async fn a_role_that_may_not_make_tables_can_use_them() {
    let (server, names) = (shared().await, Names::fresh());
    let mut foreign = Foreign::open(&server.url()).await;
    let role = format!("role_{}", names.locks);
    foreign.run(&format!("CREATE ROLE {role} LOGIN")).await;
    let url = server.url().replace("postgres@", &format!("{role}@"));
    let error = error_of(PostgresBackend::connect(names.config(&url)).await, ErrorKind::AuthFailed);
    assert!(error.to_string().contains("schema_sql"), "{error}");
    PostgresBackend::setup_schema(&names.config(&server.url())).await.unwrap();
    let error =
        PostgresBackend::connect(names.config(&url).unsafe_settings(UnsafeSettings::Ignore))
            .await
            .unwrap();
    let error = error_of(error.acquire(&ask("job", LONG)).await, ErrorKind::AuthFailed);
    assert!(!error.may_have_applied());
    let (locks, counters) = (&names.locks, &names.counters);
    let grant = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {locks}, {counters} TO {role}");
    foreign.run(&grant).await;
    let backend = names.connect(&url).await;
    let request = ask("job", LONG);
    granted(&backend, &request).await;
    assert!(released(&backend, &request).await);
    backend.abandon(request.lock_id, &request.key).await.unwrap();
    foreign.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn the_longest_and_strangest_names_work_and_bad_ones_are_refused() {
    let server = shared().await;
    let longest = format!("Select_{}", "x".repeat(44));
    let config = |locks: &str, counters: &str| config(&server.url()).tables(locks, counters);
    let backend = PostgresBackend::connect(config(&longest, "Order")).await.unwrap();
    let request = ask("job", LONG);
    granted(&backend, &request).await;
    assert!(released(&backend, &request).await);
    let long = format!("{longest}x");
    for (locks, counters) in
        [("a\"; DROP TABLE b; --", "b"), ("same", "same"), (long.as_str(), "b"), ("a", "public.b")]
    {
        let refused = config(locks, counters);
        error_of(refused.schema_sql(), ErrorKind::InvalidArgument);
        error_of(PostgresBackend::connect(refused).await, ErrorKind::InvalidArgument);
    }
}

#[tokio::test]
async fn pruning_takes_what_is_long_over_and_nothing_else() {
    let (server, names) = (shared().await, Names::fresh());
    let backend = names.connect(&server.url()).await;
    let mut foreign = Foreign::open(&server.url()).await;
    let requests = ["held", "over", "long over"].map(|text| ask(text, LONG));
    for request in &requests {
        granted(&backend, request).await;
    }
    let now = "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    for (text, ago) in [("over", 60_000), ("long over", 7_200_000)] {
        let age = format!("SET expires_at_ms = {now} - {ago}, acquired_at_ms = {now} - {ago}");
        foreign.run(&format!("UPDATE {} {age} WHERE key = '{text}'", names.locks)).await;
    }
    let (fresh, old) = (ask("a", LONG), ask("b", LONG));
    for request in [&fresh, &old] {
        backend.abandon(request.lock_id, &request.key).await.unwrap();
    }
    let age = format!("SET acquired_at_ms = {now} - 7200000");
    let old_id = old.lock_id.as_str();
    foreign.run(&format!("UPDATE {} {age} WHERE lock_id = '{old_id}'", names.locks)).await;

    assert_eq!(backend.prune(Duration::from_secs(3_600)).await.unwrap(), 2, "row and old mark");
    assert_eq!(backend.prune(Duration::ZERO).await.unwrap(), 1, "the other row");
    assert!(is_locked(&backend, "held").await);
    error_of(backend.acquire(&fresh).await, ErrorKind::Aborted);
    assert_eq!(granted(&backend, &ask("long over", LONG)).await.fence.number(), 2);
    assert_eq!(backend.prune(Duration::MAX).await.unwrap(), 0);
}

#[tokio::test]
async fn more_than_a_batch_is_pruned() {
    let (server, names) = (shared().await, Names::fresh());
    let backend = names.connect(&server.url()).await;
    let rows = "INSERT INTO {locks} SELECT n, n, 1, 1, lpad('1', 15, '0'), n
        FROM (SELECT generate_series(1, 2500)::text AS n) AS rows";
    Foreign::open(&server.url()).await.run(&with_names(rows, &names)).await;
    assert_eq!(backend.prune(Duration::from_secs(60)).await.unwrap(), 2_500);
}
