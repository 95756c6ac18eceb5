//! Creating, checking, naming and pruning the tables.

use std::time::Duration;

use syncguard_core::UnsafeSettings;
use syncguard_core::{ErrorKind, backend::LockBackend};
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::{
    operations::{LONG, ask, error_of, granted, released},
    sql::schema,
};

use crate::{Foreign, Names, config, shared, typescript::with_names};

#[tokio::test]
async fn many_clients_can_create_the_tables_concurrently() {
    schema::many_clients_can_create_the_tables_concurrently::<Names>().await;
}

#[tokio::test]
async fn an_error_about_missing_tables_explains_how_to_create_them() {
    schema::an_error_about_missing_tables_explains_how_to_create_them::<Names>().await;
}

#[tokio::test]
async fn the_text_of_schema_sql_can_be_run_repeatedly() {
    schema::the_text_of_schema_sql_can_be_run_repeatedly::<Names>().await;
}

#[tokio::test]
async fn a_role_that_may_not_create_tables_can_use_them() {
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
async fn the_longest_and_strangest_names_work_and_invalid_names_are_refused() {
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
async fn pruning_removes_only_grants_that_ended_long_ago() {
    schema::pruning_removes_only_grants_that_ended_long_ago::<Names>().await;
}

#[tokio::test]
async fn pruning_removes_more_than_one_batch() {
    let (server, names) = (shared().await, Names::fresh());
    let backend = names.connect(&server.url()).await;
    let rows = "INSERT INTO {locks} SELECT n, n, 1, 1, lpad('1', 15, '0'), n
        FROM (SELECT generate_series(1, 2500)::text AS n) AS rows";
    Foreign::open(&server.url()).await.run(&with_names(rows, &names)).await;
    assert_eq!(backend.prune(Duration::from_secs(60)).await.unwrap(), 2_500);
}
