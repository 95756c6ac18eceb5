//! Creating, checking, naming and pruning the table.

use std::time::Duration;

use syncguard_core::{ErrorKind, UnsafeSettings, backend::LockBackend};
use syncguard_mysql::MysqlBackend;
use syncguard_testkit::{
    operations::{LONG, ask, error_of, granted, released},
    sql::schema,
};

use crate::{Foreign, Name, config, connect, shared};

#[tokio::test]
async fn many_clients_can_create_the_table_concurrently() {
    schema::many_clients_can_create_the_tables_concurrently::<Name>().await;
}

#[tokio::test]
async fn an_error_about_a_missing_table_explains_how_to_create_it() {
    schema::an_error_about_missing_tables_explains_how_to_create_them::<Name>().await;
}

/// Without transactions, without unique indexes, or with keys that are compared as text, there is
/// no mutual exclusion.
#[tokio::test]
async fn a_table_without_the_required_form_is_refused() {
    let server = shared().await;
    for (what, instead) in [
        ("ENGINE = InnoDB", "ENGINE = MyISAM"),
        ("UNIQUE KEY lock_id (lock_id)", "KEY lock_id (lock_id)"),
        ("UNIQUE KEY lock_id (lock_id)", "UNIQUE KEY lock_id (lock_id, fence)"),
        ("lock_key VARBINARY(512)", "lock_key VARCHAR(512)"),
        ("owner VARCHAR(255)", "holder VARCHAR(255)"),
    ] {
        let name = Name::fresh();
        let sql = name.config(server.url()).schema_sql().unwrap();
        assert!(sql.contains(what), "{what}");
        let sql = sql.replace(what, instead).replace(" ROW_FORMAT = DYNAMIC", "");
        Foreign::open(server.url()).await.run(&sql).await;
        error_of(MysqlBackend::connect(name.config(server.url())).await, ErrorKind::Internal);
    }
}

#[tokio::test]
async fn the_text_of_schema_sql_can_be_run_repeatedly() {
    schema::the_text_of_schema_sql_can_be_run_repeatedly::<Name>().await;
}

#[tokio::test]
async fn a_user_who_may_not_create_tables_can_use_them() {
    let (server, name) = (shared().await, Name::fresh());
    let mut foreign = Foreign::open(server.url()).await;
    // Every user has all privileges for the database `test`.
    let (database, user) = (format!("database_{}", name.0), format!("user_{}", name.0));
    foreign.run(&format!("CREATE DATABASE {database}; CREATE USER {user}")).await;
    let grant = |rights: &str| format!("GRANT {rights} ON {database}.syncguard_locks TO {user}");
    let root = server.url().replace("/test", &format!("/{database}"));
    let url = root.replace("root@", &format!("{user}@"));
    error_of(MysqlBackend::connect(config(&url)).await, ErrorKind::AuthFailed);
    foreign.run(&format!("GRANT SHOW VIEW ON {database}.* TO {user}")).await;
    let error = error_of(MysqlBackend::connect(config(&url)).await, ErrorKind::AuthFailed);
    assert!(error.to_string().contains("schema_sql"), "{error}");
    MysqlBackend::setup_schema(&config(&root)).await.unwrap();
    foreign.run(&grant("SELECT")).await;
    let reader =
        MysqlBackend::connect(config(&url).unsafe_settings(UnsafeSettings::Ignore)).await.unwrap();
    let error = error_of(reader.acquire(&ask("job", LONG)).await, ErrorKind::AuthFailed);
    assert!(!error.may_have_applied());
    foreign.run(&grant("INSERT, UPDATE, DELETE")).await;
    let backend = connect(&url).await;
    let request = ask("job", LONG);
    granted(&backend, &request).await;
    assert!(released(&backend, &request).await);
    backend.abandon(request.lock_id, &request.key).await.unwrap();
    backend.prune(Duration::ZERO).await.unwrap();
    foreign.run(&format!("DROP USER {user}; DROP DATABASE {database}")).await;
}

#[tokio::test]
async fn the_longest_and_strangest_names_work_and_invalid_names_are_refused() {
    let server = shared().await;
    let longest = format!("Select_{}", "x".repeat(50));
    for name in [longest.as_str(), "Order", "_"] {
        let backend = MysqlBackend::connect(config(server.url()).table(name)).await.unwrap();
        let request = ask("job", LONG);
        granted(&backend, &request).await;
        assert!(released(&backend, &request).await);
    }
    let long = format!("{longest}x");
    for name in ["a`; DROP TABLE b; --", "", long.as_str(), "test.a", "$1"] {
        let refused = config(server.url()).table(name);
        error_of(refused.schema_sql(), ErrorKind::InvalidArgument);
        error_of(MysqlBackend::connect(refused).await, ErrorKind::InvalidArgument);
    }
}

#[tokio::test]
async fn pruning_removes_only_grants_that_ended_long_ago() {
    schema::pruning_removes_only_grants_that_ended_long_ago::<Name>().await;
}

#[tokio::test]
async fn pruning_removes_more_than_one_batch() {
    let (server, name) = (shared().await, Name::fresh());
    let backend = name.connect(server.url()).await;
    let rows = "INSERT INTO {locks} (lock_key, fence, lock_id, acquired_at_ms, expires_at_ms)
        WITH RECURSIVE numbers AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM numbers WHERE n < 2500)
        SELECT n, 1, n, 1, 1 FROM numbers";
    let mut foreign = Foreign::open(server.url()).await;
    foreign.run("SET SESSION max_recursive_iterations = 10000").await;
    foreign.run(&name.fill(rows)).await;
    assert_eq!(backend.prune(Duration::from_secs(60)).await.unwrap(), 2_500);
    let kept = foreign.number(&name.fill("SELECT COUNT(*) FROM {locks}")).await;
    assert_eq!(kept, 2_500, "the fences stay");
}
