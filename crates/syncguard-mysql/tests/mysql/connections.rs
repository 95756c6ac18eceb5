//! Connections that are lost silently, hang, or are too few.

use std::time::Duration;

use syncguard_testkit::{
    operations::{LONG, ask, granted},
    server::MariadbServer,
    sql::connections::{self, HangingCommits},
};

use crate::{Foreign, Name, connect, shared};

#[tokio::test]
async fn a_connection_that_the_network_has_forgotten_is_replaced_before_it_is_used() {
    let server = shared().await;
    connections::a_connection_that_the_network_has_forgotten_is_replaced_before_it_is_used(
        server.address().unwrap(),
        async |address| Name::fresh().connect(&server.url_through(address)).await,
    )
    .await;
}

const COMMITS: HangingCommits = HangingCommits {
    begin: &[
        "SET GLOBAL rpl_semi_sync_master_timeout = 3600000",
        "SET GLOBAL rpl_semi_sync_master_wait_no_slave = ON",
        "SET GLOBAL rpl_semi_sync_master_enabled = ON",
    ],
    end: &["SET GLOBAL rpl_semi_sync_master_enabled = OFF"],
    hanging: "SELECT COUNT(*) FROM information_schema.PROCESSLIST
        WHERE STATE LIKE '%semi-sync ACK%'",
    sessions: "SELECT COUNT(*) FROM information_schema.PROCESSLIST
        WHERE USER = 'root' AND ID <> CONNECTION_ID()",
};

#[tokio::test]
async fn hanging_commits_leave_no_more_sessions_than_the_pool_size() {
    const SIZE: u32 = 3;
    let server = MariadbServer::builder().setting("log-bin", "binlog");
    let server = server.setting("server-id", "1").start().await.unwrap();
    let mut foreign = Foreign::open(&server.url()).await;
    let config = Name::fresh().config(&server.url()).max_connections(SIZE);
    let config = config.statement_timeout(Duration::from_millis(300));
    let config = config.lock_timeout(Duration::from_secs(1));
    connections::hanging_commits_leave_no_more_sessions_than_the_pool_size::<Name>(
        config,
        SIZE,
        &COMMITS,
        &mut foreign,
    )
    .await;
}

#[tokio::test]
async fn an_acquire_that_would_wait_too_long_is_rejected_and_changes_nothing() {
    connections::an_acquire_that_would_wait_too_long_is_rejected_and_changes_nothing::<Name>()
        .await;
}

#[tokio::test]
async fn a_server_that_was_paused_is_not_flooded_and_serves_the_holders() {
    connections::a_server_that_was_paused_is_not_flooded_and_serves_the_holders::<Name>().await;
}

#[tokio::test]
async fn a_backend_without_a_server_reports_why_there_is_no_connection() {
    connections::a_backend_without_a_server_reports_why_there_is_no_connection::<Name>().await;
}

#[tokio::test]
async fn an_address_may_contain_an_ipv6_literal() {
    let server = MariadbServer::builder().setting("bind-address", "127.0.0.1,::1").start();
    let server = server.await.unwrap();
    let backend = connect(&server.url().replace("127.0.0.1", "[::1]")).await;
    granted(&backend, &ask("job", LONG)).await;
}
