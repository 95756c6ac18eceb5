//! Statements that wait for a lock of another client: they time out at the server and leave nothing
//! waiting.

use std::time::Duration;

use syncguard_core::{ErrorKind, backend::LockBackend};
use syncguard_mysql::MysqlBackend;
use syncguard_testkit::{
    operations::{LONG, ask, error_of, eventually, granted, lock_of, released},
    server::MariadbServer,
};
use tokio::time::timeout;

use crate::{Foreign, config, connect};

/// Counts the statements of other connections that wait or run.
const BUSY: &str = "SELECT COUNT(*) FROM information_schema.PROCESSLIST
    WHERE COMMAND = 'Query' AND ID <> CONNECTION_ID()";

async fn with_short_lock_timeout(server: &MariadbServer) -> MysqlBackend {
    MysqlBackend::connect(config(&server.url()).lock_timeout(Duration::from_secs(1))).await.unwrap()
}

/// Returns when a statement waits at the server, which proves that the fault happened.
async fn one_waits(watch: &mut Foreign) {
    eventually("a statement waits", async || watch.number(BUSY).await == 1).await;
}

async fn nothing_waits(watch: &mut Foreign) {
    eventually("nothing waits any more", async || watch.number(BUSY).await == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_write_times_out_and_leaves_no_statement_at_the_server() {
    let server = MariadbServer::start().await.unwrap();
    let backend = with_short_lock_timeout(&server).await;
    let held = ask("job", LONG);
    granted(&backend, &held).await;
    let (mut foreign, mut watch) =
        (Foreign::open(&server.url()).await, Foreign::open(&server.url()).await);
    foreign.run("BEGIN").await;
    foreign.run("SELECT * FROM syncguard_locks WHERE lock_key = 'job' FOR UPDATE").await;
    for operation in ["extend", "release", "abandon", "force release"] {
        let (backend, held) = (backend.clone(), held.clone());
        let blocked = tokio::spawn(async move {
            let lock = lock_of(&held);
            match operation {
                "extend" => backend.extend(&lock, held.ttl).await.map(drop),
                "release" => backend.release(&lock).await.map(drop),
                "abandon" => backend.abandon(held.lock_id, &held.key).await,
                _ => backend.force_release(&held.key).await.map(drop),
            }
        });
        one_waits(&mut watch).await;
        let error = error_of(blocked.await.unwrap(), ErrorKind::ServiceUnavailable);
        assert!(error.is_retryable() && !error.may_have_applied(), "{operation}: {error}");
        nothing_waits(&mut watch).await;
    }
    // A statement whose caller is gone ends as well.
    let lock = lock_of(&held);
    let dropped = backend.release(&lock);
    assert!(timeout(Duration::from_millis(100), dropped).await.is_err());
    one_waits(&mut watch).await;
    nothing_waits(&mut watch).await;
    foreign.run("COMMIT").await;
    assert!(released(&backend, &held).await);
}

/// Opens a transaction that has read the table.
async fn read(server: &MariadbServer, sql: &str) -> Foreign {
    let mut foreign = Foreign::open(&server.url()).await;
    foreign.run(sql).await;
    foreign.run("BEGIN").await;
    foreign.run("SELECT * FROM syncguard_locks").await;
    foreign
}

#[tokio::test]
async fn connecting_does_not_wait_for_a_transaction_that_has_read_the_table() {
    let server = MariadbServer::start().await.unwrap();
    let mut watch = Foreign::open(&server.url()).await;
    let schema = config(&server.url()).schema_sql().unwrap();
    let reader = read(&server, &schema).await;
    for number in 0..3 {
        let backend = connect(&server.url()).await;
        MysqlBackend::setup_schema(&config(&server.url())).await.unwrap();
        granted(&backend, &ask(&format!("job {number}"), LONG)).await;
    }
    drop(reader);
    watch.run("DROP TABLE syncguard_locks").await;
    let altered = schema.replace("owner VARCHAR(255)", "holder VARCHAR(255)");
    let _reader = read(&server, &altered).await;
    for _ in 0..3 {
        error_of(MysqlBackend::connect(config(&server.url())).await, ErrorKind::Internal);
    }
    let queued = "SELECT COUNT(*) FROM information_schema.PROCESSLIST
        WHERE STATE LIKE 'Waiting for table metadata lock%'";
    assert_eq!(watch.number(queued).await, 0);
    let columns = "SELECT COUNT(*) FROM information_schema.COLUMNS
        WHERE TABLE_NAME = 'syncguard_locks' AND COLUMN_NAME IN ('owner', 'holder')";
    assert_eq!(watch.number(columns).await, 1, "the table was altered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creating_the_table_times_out_and_withdraws_its_request() {
    let server = MariadbServer::start().await.unwrap();
    let (mut foreign, mut watch) =
        (Foreign::open(&server.url()).await, Foreign::open(&server.url()).await);
    // A backup takes this lock.
    foreign.run("FLUSH TABLES WITH READ LOCK").await;
    let config = config(&server.url()).lock_timeout(Duration::from_secs(1));
    let connecting = tokio::spawn(MysqlBackend::connect(config.clone()));
    one_waits(&mut watch).await;
    let error = error_of(connecting.await.unwrap(), ErrorKind::ServiceUnavailable);
    assert!(error.is_retryable(), "{error}");
    nothing_waits(&mut watch).await;
    foreign.run("UNLOCK TABLES").await;
    MysqlBackend::connect(config).await.unwrap();
}
