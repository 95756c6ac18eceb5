//! The table: made, found, named and cleaned up.

use std::time::Duration;

use syncguard_core::{ErrorKind, LockBackend, Severity, UnsafeSettings};
use syncguard_mysql::MysqlBackend;
use syncguard_testkit::operations::{LONG, ask, error_of, granted, is_locked, released};

use crate::{Foreign, Name, config, connect, shared};

#[tokio::test]
async fn many_clients_that_come_at_once_make_the_table_together() {
    let server = shared().await;
    for _ in 0..5 {
        let name = Name::fresh();
        let mut clients = tokio::task::JoinSet::new();
        for number in 0..12 {
            let (name, url) = (name.clone(), server.url().to_owned());
            clients.spawn(async move {
                let backend = name.connect(&url).await;
                MysqlBackend::setup_schema(&name.config(&url)).await.unwrap();
                granted(&backend, &ask(&format!("k{number}"), LONG)).await
            });
        }
        assert!(clients.join_all().await.iter().all(|grant| grant.fence.number() == 1));
    }
}

#[tokio::test]
async fn without_a_table_an_error_says_how_to_get_it() {
    let (server, name) = (shared().await, Name::fresh());
    let existing = name.config(server.url()).existing_table_only();
    let error = error_of(MysqlBackend::connect(existing.clone()).await, ErrorKind::Internal);
    assert!(error.to_string().contains("setup_schema"), "{error}");
    MysqlBackend::setup_schema(&existing).await.unwrap();
    let backend = MysqlBackend::connect(existing).await.unwrap();
    Foreign::open(server.url()).await.run(&name.fill("DROP TABLE {locks}")).await;
    let error = error_of(backend.acquire(&ask("job", LONG)).await, ErrorKind::Internal);
    assert!(error.to_string().contains("setup_schema") && !error.may_have_applied(), "{error}");
    let findings = backend.check().await.unwrap();
    assert!(findings.iter().any(|finding| finding.severity == Severity::Unsafe), "{findings:?}");
    MysqlBackend::setup_schema(&name.config(server.url())).await.unwrap();
    granted(&backend, &ask("job", LONG)).await;
}

/// Without transactions, without uniqueness, or with keys that are compared as text, nothing holds.
#[tokio::test]
async fn a_table_that_is_not_as_it_should_be_is_refused() {
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
async fn what_schema_sql_gives_can_be_run_again_and_again() {
    let (server, name) = (shared().await, Name::fresh());
    let config = name.config(server.url()).existing_table_only();
    let mut foreign = Foreign::open(server.url()).await;
    for _ in 0..3 {
        foreign.run(&config.schema_sql().unwrap()).await;
    }
    granted(&MysqlBackend::connect(config).await.unwrap(), &ask("job", LONG)).await;
}

#[tokio::test]
async fn a_user_who_may_not_make_tables_can_use_them() {
    let (server, name) = (shared().await, Name::fresh());
    let mut foreign = Foreign::open(server.url()).await;
    // Everybody may do everything in the database `test`.
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
async fn the_longest_and_strangest_names_work_and_bad_ones_are_refused() {
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
async fn pruning_takes_what_is_long_over_and_nothing_else() {
    let (server, name) = (shared().await, Name::fresh());
    let backend = name.connect(server.url()).await;
    let mut foreign = Foreign::open(server.url()).await;
    let requests = ["held", "over", "long over"].map(|text| ask(text, LONG));
    for request in &requests {
        granted(&backend, request).await;
    }
    for (text, ago) in [("over", 120_000), ("long over", 7_260_000)] {
        let age = "UPDATE {locks} SET expires_at_ms = expires_at_ms - ";
        foreign.run(&name.fill(&format!("{age} {ago} WHERE lock_key = '{text}'"))).await;
    }
    let (fresh, old) = (ask("a", LONG), ask("b", LONG));
    for request in [&fresh, &old] {
        backend.abandon(request.lock_id, &request.key).await.unwrap();
    }
    let age = "UPDATE {locks} SET acquired_at_ms = acquired_at_ms - 7200000 WHERE lock_id = ";
    foreign.run(&name.fill(&format!("{age} '{}'", old.lock_id.as_str()))).await;

    assert_eq!(backend.prune(Duration::from_secs(3_600)).await.unwrap(), 2, "row and old mark");
    assert_eq!(backend.prune(Duration::ZERO).await.unwrap(), 1, "the other row");
    assert!(is_locked(&backend, "held").await);
    error_of(backend.acquire(&fresh).await, ErrorKind::Aborted);
    assert_eq!(granted(&backend, &ask("long over", LONG)).await.fence.number(), 2);
    assert_eq!(backend.prune(Duration::MAX).await.unwrap(), 0);
}

#[tokio::test]
async fn more_than_a_batch_is_pruned() {
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
