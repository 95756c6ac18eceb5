use syncguard_testkit::server::RedisCluster;

use crate::resp::{Connection, request};

#[tokio::test]
async fn a_cluster_serves_each_key_on_one_node_and_redirects_to_it() {
    let cluster = RedisCluster::start().await.unwrap();
    assert_eq!(cluster.nodes().len(), 3);
    let slot = cluster.slot_of("a").await.unwrap();
    let owner = cluster.owner_of(slot).await.unwrap();
    for (index, node) in cluster.nodes().iter().enumerate() {
        let reply = request(node.address(), "SET a 1").await;
        if index == owner {
            assert_eq!(reply, "+OK");
        } else {
            let port = cluster.nodes()[owner].port();
            assert_eq!(reply, format!("-MOVED {slot} 127.0.0.1:{port}"));
        }
    }
}

#[tokio::test]
async fn a_migrating_slot_answers_ask_and_then_moved() {
    let cluster = RedisCluster::start().await.unwrap();
    let slot = cluster.slot_of("{a}1").await.unwrap();
    let from = cluster.owner_of(slot).await.unwrap();
    let to = (from + 1) % cluster.nodes().len();
    let [source, target] = [from, to].map(|index| cluster.nodes()[index].address());
    assert_eq!(request(source, "SET {a}1 1").await, "+OK");

    let migration = cluster.migrate(slot, to).await.unwrap();
    assert_eq!(request(source, "GET {a}1").await, "1");
    let redirected = format!("-ASK {slot} {target}");
    assert_eq!(request(source, "GET {a}2").await, redirected);
    let mut connection = Connection::to(target).await;
    let moved = format!("-MOVED {slot} {source}");
    assert_eq!(connection.request("SET {a}2 2").await.unwrap(), moved);
    assert_eq!(connection.request("ASKING").await.unwrap(), "+OK");
    assert_eq!(connection.request("SET {a}2 2").await.unwrap(), "+OK");
    migration.move_keys().await.unwrap();
    assert_eq!(request(source, "GET {a}1").await, redirected);

    migration.finish().await.unwrap();
    assert_eq!(cluster.owner_of(slot).await.unwrap(), to);
    assert_eq!(request(source, "GET {a}1").await, format!("-MOVED {slot} {target}"));
    assert_eq!(request(target, "GET {a}1").await, "1");
}

#[tokio::test]
async fn a_killed_node_rejoins_its_cluster() {
    let cluster = RedisCluster::start().await.unwrap();
    let node = &cluster.nodes()[1];
    node.kill().unwrap();
    assert!(node.command(&["PING"]).await.is_err());
    node.restart().await.unwrap();
    cluster.wait_until_settled().await.unwrap();
    assert_eq!(node.command(&["PING"]).await.unwrap(), "PONG");
}
