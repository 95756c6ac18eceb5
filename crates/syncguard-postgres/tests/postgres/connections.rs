//! Connections that are lost silently, hang, or are too few.

use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use syncguard_postgres::{PostgresBackend, PostgresConfig};
use syncguard_testkit::{
    operations::{LONG, ask, eventually, granted},
    server::{PgBouncer, PostgresServer},
    sql::connections::{self, HangingCommits},
};

use crate::{Foreign, Names, connect, shared};

#[tokio::test]
async fn a_connection_that_the_network_has_forgotten_is_replaced_before_it_is_used() {
    let server = shared().await;
    let pooler = PgBouncer::before(server.address()).start().await.unwrap();
    for pooled in [false, true] {
        let upstream = if pooled { pooler.address() } else { server.address() };
        connections::a_connection_that_the_network_has_forgotten_is_replaced_before_it_is_used(
            upstream,
            async |proxy| {
                let url =
                    if pooled { pooler.url_through(proxy) } else { server.url_through(proxy) };
                let config = Names::fresh().config(&url).without_listening();
                let config = if pooled { config.pgbouncer() } else { config };
                PostgresBackend::connect(config).await.unwrap()
            },
        )
        .await;
    }
}

const COMMITS: HangingCommits = HangingCommits {
    begin: &["ALTER SYSTEM SET synchronous_standby_names = 'missing'", "SELECT pg_reload_conf()"],
    end: &["ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()"],
    hanging: "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'",
    sessions: "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'
        AND application_name = 'syncguard'",
};

#[tokio::test]
async fn hanging_commits_leave_no_more_sessions_than_the_pool_size() {
    const SIZE: u32 = 3;
    let server = PostgresServer::start().await.unwrap();
    let mut foreign = Foreign::open(&server.url()).await;
    let own = Names::fresh().config(&server.url()).max_connections(SIZE);
    let pool = PgPoolOptions::new().max_connections(SIZE).connect(&server.url()).await.unwrap();
    let names = Names::fresh();
    let callers = PostgresConfig::from_pool(pool).tables(&names.locks, &names.counters);
    for config in [own, callers] {
        connections::hanging_commits_leave_no_more_sessions_than_the_pool_size::<Names>(
            config.statement_timeout(Duration::from_millis(300)),
            SIZE,
            &COMMITS,
            &mut foreign,
        )
        .await;
        let disconnected = async || foreign.number(COMMITS.sessions).await <= i64::from(SIZE);
        eventually("it is disconnected", disconnected).await;
    }
}

#[tokio::test]
async fn an_acquire_that_would_wait_too_long_is_rejected_and_changes_nothing() {
    connections::an_acquire_that_would_wait_too_long_is_rejected_and_changes_nothing::<Names>()
        .await;
}

#[tokio::test]
async fn a_server_that_was_paused_is_not_flooded_and_serves_the_holders() {
    connections::a_server_that_was_paused_is_not_flooded_and_serves_the_holders::<Names>().await;
}

#[tokio::test]
async fn a_backend_without_a_server_reports_why_there_is_no_connection() {
    connections::a_backend_without_a_server_reports_why_there_is_no_connection::<Names>().await;
}

#[tokio::test]
async fn an_address_may_contain_an_ipv6_literal() {
    let server = PostgresServer::builder().setting("listen_addresses", "127.0.0.1,::1").start();
    let server = server.await.unwrap();
    let backend = connect(&server.url().replace("127.0.0.1", "[::1]")).await;
    granted(&backend, &ask("job", LONG)).await;
}
