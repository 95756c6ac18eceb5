//! Futures that are dropped before they complete, and their effect on a connection.

use std::time::Duration;

use sqlx::{AssertSqlSafe, mysql::MySqlPoolOptions};
use syncguard_core::backend::LockBackend;
use syncguard_mysql::MysqlBackend;
use syncguard_testkit::operations::{
    LONG, ask, eventually, extended, granted, lock_of, released, ttl,
};

use crate::{Foreign, Name, shared};

/// Returns timeouts that range from before the request is sent to after its answer.
fn limit(number: u64) -> Duration {
    Duration::from_micros(number * 7 % 700)
}

/// Why this backend does not accept a caller's pool: the statement is answered, and its effect is
/// invisible to others.
#[tokio::test]
async fn a_pool_of_the_driver_returns_connections_inside_a_transaction() {
    let (server, name) = (shared().await, Name::fresh());
    let pool = MySqlPoolOptions::new().max_connections(1).test_before_acquire(false);
    let pool = pool.connect(server.url()).await.unwrap();
    let mut foreign = Foreign::open(server.url()).await;
    foreign.run(&name.fill("CREATE TABLE {locks} (n INT) ENGINE = InnoDB")).await;
    let mut swallowed = 0;
    for number in 0..500 {
        drop(tokio::time::timeout(limit(number), pool.begin()).await);
        let insert = AssertSqlSafe(name.fill("INSERT INTO {locks} VALUES (1)"));
        let written = sqlx::raw_sql(insert).execute(&pool).await.unwrap().rows_affected();
        let seen = foreign.number(&name.fill("SELECT COUNT(*) FROM {locks}")).await;
        swallowed += u64::from(written == 1 && seen == 0);
        if swallowed > 0 {
            break;
        }
        foreign.run(&name.fill("DELETE FROM {locks}")).await;
    }
    assert!(swallowed > 0, "no connection was left inside a transaction");
}

#[tokio::test]
async fn after_500_dropped_operations_every_grant_is_visible_on_another_connection() {
    let (server, name) = (shared().await, Name::fresh());
    let backend =
        MysqlBackend::connect(name.config(server.url()).max_connections(2)).await.unwrap();
    let mut foreign = Foreign::open(server.url()).await;
    let mut dropped = 0;
    for number in 0.. {
        if dropped == 500 {
            break;
        }
        let request = ask("dropped", LONG);
        let operation = async {
            match number % 3 {
                0 => drop(backend.acquire(&request).await),
                1 => drop(backend.extend(&lock_of(&request), ttl(LONG)).await),
                _ => drop(backend.release(&lock_of(&request)).await),
            }
        };
        let answered = tokio::time::timeout(limit(number), operation).await.is_ok();
        backend.abandon(request.lock_id, &request.key).await.unwrap();
        if answered {
            continue;
        }
        dropped += 1;
        let request = ask("job", LONG);
        let fence = granted(&backend, &request).await.fence;
        let sql = name.fill("SELECT CAST(fence AS SIGNED) FROM {locks} WHERE lock_key = 'job'");
        let seen = foreign.number(&sql).await;
        assert_eq!(u64::try_from(seen).unwrap(), fence.number(), "after {dropped}");
        assert!(extended(&backend, &request).await && released(&backend, &request).await);
    }
    let open = "SELECT COUNT(*) FROM information_schema.INNODB_TRX
        JOIN information_schema.PROCESSLIST ON trx_mysql_thread_id = ID WHERE COMMAND = 'Sleep'";
    let held = name.fill("SELECT COUNT(*) FROM {locks} WHERE expires_at_ms > 0");
    assert_eq!(foreign.number(&held).await, 0, "nothing is left behind");
    // Other tests may have an open transaction for a while.
    eventually("no transaction is open", async || foreign.number(open).await == 0).await;
}
