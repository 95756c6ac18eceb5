//! A caller's pool whose connections are left inside transactions.

use std::time::Duration;

use sqlx::{PgPool, Row, postgres::PgPoolOptions};
use syncguard_postgres::{PostgresBackend, PostgresConfig};
use syncguard_testkit::{
    log_capture::EventCounter,
    operations::{LONG, ask, extended, granted, is_locked, released},
    server::PostgresServer,
};

use crate::{Foreign, Names, shared};

/// A part of the warning about a connection that was left inside a transaction.
const LEFT_INSIDE: &str = "inside a transaction";

/// Returns a pool, and a backend that shares it.
async fn on_a_pool(
    server: &PostgresServer,
    names: &Names,
    connections: u32,
) -> (PgPool, PostgresBackend) {
    let pool = PgPoolOptions::new().max_connections(connections).test_before_acquire(false);
    let pool = pool.connect(&server.url()).await.unwrap();
    let config = PostgresConfig::from_pool(pool.clone()).tables(&names.locks, &names.counters);
    let backend = PostgresBackend::connect(config).await.unwrap();
    (pool, backend)
}

#[tokio::test]
async fn after_500_cancelled_begins_every_grant_is_visible_on_another_connection() {
    let (heard, _hearing) = EventCounter::install(LEFT_INSIDE);
    let (server, names) = (shared().await, Names::fresh());
    let (pool, backend) = on_a_pool(&server, &names, 4).await;
    let mut foreign = Foreign::open(&server.url()).await;
    let mut cancelled = 0_u64;
    while cancelled < 500 {
        // The timeouts range from before the request is sent to after its answer.
        let limit = Duration::from_micros(cancelled * 7 % 400);
        if tokio::time::timeout(limit, pool.begin()).await.is_ok() {
            continue;
        }
        cancelled += 1;
        let request = ask("job", LONG);
        let fence = granted(&backend, &request).await.fence;
        let sql = format!("SELECT max(fence)::bigint FROM {}", names.locks);
        let seen = foreign.number(&sql).await;
        assert_eq!(u64::try_from(seen).unwrap(), fence.number(), "after {cancelled}");
        assert!(extended(&backend, &request).await && released(&backend, &request).await);
        assert_eq!(foreign.number(&format!("SELECT count(*) FROM {}", names.locks)).await, 0);
    }
    assert!(heard.count() > 0, "no connection was left inside a transaction");
}

#[tokio::test]
async fn a_read_inside_a_foreign_transaction_is_discarded() {
    let (heard, _hearing) = EventCounter::install(LEFT_INSIDE);
    let (server, names) = (shared().await, Names::fresh());
    let (pool, backend) = on_a_pool(&server, &names, 1).await;
    let elsewhere = names.connect(&server.url()).await;
    assert!(!is_locked(&backend, "job").await);
    let stale = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class";
    sqlx::raw_sql(stale).execute(&pool).await.unwrap();
    granted(&elsewhere, &ask("job", LONG)).await;
    assert!(is_locked(&backend, "job").await, "the snapshot of the transaction is older");
    assert_eq!(heard.count(), 1);
}

#[tokio::test]
async fn a_connection_inside_a_failed_transaction_is_replaced() {
    let (heard, _hearing) = EventCounter::install(LEFT_INSIDE);
    let (server, names) = (shared().await, Names::fresh());
    let (pool, backend) = on_a_pool(&server, &names, 1).await;
    sqlx::raw_sql("BEGIN").execute(&pool).await.unwrap();
    sqlx::raw_sql("SELECT 1 / 0").execute(&pool).await.unwrap_err();
    let request = ask("job", LONG);
    granted(&backend, &request).await;
    assert!(released(&backend, &request).await);
    assert_eq!(heard.count(), 1);
}

#[tokio::test]
async fn a_statement_inside_a_foreign_transaction_changes_nothing() {
    let (server, names) = (shared().await, Names::fresh());
    let (pool, backend) = on_a_pool(&server, &names, 2).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(pool.acquire().await.unwrap());
    }
    for connection in &mut open {
        sqlx::raw_sql("BEGIN").execute(&mut **connection).await.unwrap();
    }
    drop(open);
    assert_eq!(granted(&backend, &ask("job", LONG)).await.fence.number(), 1);
    assert_eq!(backend.prune(Duration::ZERO).await.unwrap(), 0);
}

#[tokio::test]
async fn no_connection_of_the_backend_itself_is_reported_as_inside_a_transaction() {
    let (heard, _hearing) = EventCounter::install(LEFT_INSIDE);
    let (server, names) = (shared().await, Names::fresh());
    let config = names.config(&server.url());
    for backend in [
        PostgresBackend::connect(config.clone()).await.unwrap(),
        PostgresBackend::connect(config.pgbouncer()).await.unwrap(),
    ] {
        for _ in 0..300 {
            let request = ask("job", LONG);
            granted(&backend, &request).await;
            assert!(extended(&backend, &request).await && released(&backend, &request).await);
        }
    }
    assert_eq!(heard.count(), 0);
}

/// The settings of a statement do not change the session, which others use as well.
#[tokio::test]
async fn the_settings_of_a_statement_end_with_it() {
    let (server, names) = (shared().await, Names::fresh());
    let (pool, backend) = on_a_pool(&server, &names, 1).await;
    let request = ask("job", LONG);
    granted(&backend, &request).await;
    assert!(extended(&backend, &request).await && released(&backend, &request).await);
    for (setting, value) in [("synchronous_commit", "on"), ("lock_timeout", "0")] {
        let show = sqlx::raw_sql(sqlx::AssertSqlSafe(format!("SHOW {setting}")));
        let shown: String = show.fetch_all(&pool).await.unwrap()[0].get(0);
        assert_eq!(shown, value, "{setting}");
    }
}
