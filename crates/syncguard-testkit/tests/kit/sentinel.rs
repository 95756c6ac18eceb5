use syncguard_testkit::server::RedisSentinel;

use crate::resp::request;

#[tokio::test]
async fn the_replica_takes_over_when_the_primary_is_killed() {
    let servers = RedisSentinel::start().await.unwrap();
    let question = format!("SENTINEL get-master-addr-by-name {}", RedisSentinel::SERVICE);
    let sentinel = servers.sentinel().address();
    let named = format!("127.0.0.1 {}", servers.primary().port());
    assert_eq!(request(sentinel, &question).await, named);
    let refused = request(servers.replica().address(), "SET a 1").await;
    assert!(refused.starts_with("-READONLY"), "{refused}");

    servers.primary().kill().unwrap();
    servers.wait_for_failover().await.unwrap();
    let named = format!("127.0.0.1 {}", servers.replica().port());
    assert_eq!(request(sentinel, &question).await, named);
    assert_eq!(request(servers.replica().address(), "SET a 1").await, "+OK");
}
