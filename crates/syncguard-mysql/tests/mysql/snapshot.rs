//! MariaDB with snapshot isolation, which newer versions enable by default.

use syncguard_core::backend::{AcquireOutcome, LockBackend};
use syncguard_mysql::MysqlBackend;
use syncguard_testkit::{
    operations::{LONG, ask},
    server::MariadbServer,
};

use crate::{Foreign, connect, shared};

const CONTENDERS: usize = 12;
const KEYS: usize = 100;

/// Starts a server with snapshot isolation.
pub(crate) async fn start() -> MariadbServer {
    let builder = MariadbServer::builder().setting("innodb-snapshot-isolation", "ON");
    let server = builder.start().await.unwrap();
    let setting = "SELECT CAST(@@innodb_snapshot_isolation AS SIGNED)";
    assert_eq!(Foreign::open(&server.url()).await.number(setting).await, 1);
    server
}

/// Makes several clients acquire each of many new keys concurrently.
async fn contend_for_new_keys(clients: &[MysqlBackend]) {
    for number in 0..KEYS {
        let mut contenders = tokio::task::JoinSet::new();
        for contender in 0..CONTENDERS {
            let backend = clients[contender % clients.len()].clone();
            let request = ask(&format!("fresh {number}"), LONG);
            contenders.spawn(async move { backend.acquire(&request).await });
        }
        let outcomes = contenders.join_all().await;
        let failed = outcomes.iter().find_map(|outcome| outcome.as_ref().err());
        assert!(failed.is_none(), "key {number}: {failed:?}");
        let granted = |outcome: &&_| matches!(outcome, Ok(AcquireOutcome::Granted(_)));
        assert_eq!(outcomes.iter().filter(granted).count(), 1, "key {number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_contender_for_a_new_key_fails_with_snapshot_isolation() {
    let server = start().await;
    let url = server.url();
    contend_for_new_keys(&[connect(&url).await, connect(&url).await, connect(&url).await]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_contender_for_a_new_key_fails() {
    let (server, name) = (shared().await, crate::Name::fresh());
    let clients = [name.connect(server.url()).await, name.connect(server.url()).await];
    contend_for_new_keys(&clients).await;
}
