use syncguard_testkit::{
    proxy::{Flow, Proxy, Times, containing},
    server::RedisServer,
};

use crate::resp::{Connection, request};

async fn start() -> (RedisServer, Proxy) {
    let redis = RedisServer::start().await.unwrap();
    let proxy = Proxy::start(redis.address()).await.unwrap();
    (redis, proxy)
}

#[tokio::test]
async fn a_request_is_not_executed_if_the_connection_is_cut_before_it() {
    let (redis, proxy) = start().await;
    proxy.cut_before(containing("INCR"), Times::Next(1));
    let mut connection = Connection::to(proxy.address()).await;
    assert_eq!(connection.request("PING").await.unwrap(), "+PONG");
    connection.send("INCR a").await.unwrap();
    assert!(connection.is_cut().await);
    assert_eq!(proxy.counts().cut_before, 1);
    assert_eq!(request(redis.address(), "EXISTS a").await, ":0");
    assert_eq!(request(proxy.address(), "INCR a").await, ":1");
}

#[tokio::test]
async fn a_request_is_executed_if_the_connection_is_cut_after_it() {
    let (redis, proxy) = start().await;
    proxy.cut_after(containing("INCR"), Times::Next(100));
    for done in 1..=100 {
        let mut connection = Connection::to(proxy.address()).await;
        connection.send("INCR a").await.unwrap();
        assert!(connection.is_cut().await);
        assert_eq!(proxy.counts().cut_after, done);
        assert_eq!(request(redis.address(), "GET a").await, done.to_string());
    }
    assert_eq!(request(proxy.address(), "INCR a").await, ":101");
}

#[tokio::test]
async fn earlier_requests_are_executed_before_a_cut_after_a_request() {
    let (redis, proxy) = start().await;
    for done in 1..=100_u32 {
        proxy.cut_after(containing("INCR"), Times::Next(1));
        let mut connection = Connection::to(proxy.address()).await;
        for _ in 0..20 {
            connection.send("PING").await.unwrap();
        }
        connection.send("INCR a").await.unwrap();
        while !connection.is_cut().await {}
        assert_eq!(request(redis.address(), "GET a").await, done.to_string());
    }
    assert_eq!(proxy.counts().cut_after, 100);
}

#[tokio::test]
async fn cuts_continue_until_the_proxy_is_healed() {
    let (_redis, proxy) = start().await;
    proxy.cut_before(|_| true, Times::Always);
    for _ in 0..5 {
        let mut connection = Connection::to(proxy.address()).await;
        connection.send("PING").await.unwrap();
        assert!(connection.is_cut().await);
    }
    proxy.heal().await.unwrap();
    assert_eq!(request(proxy.address(), "PING").await, "+PONG");
    assert_eq!(proxy.counts().cut_before, 5);
}

#[tokio::test]
async fn all_connections_are_cut_at_once_and_new_ones_work() {
    let (_redis, proxy) = start().await;
    let mut connections = Vec::new();
    for _ in 0..3 {
        let mut connection = Connection::to(proxy.address()).await;
        assert_eq!(connection.request("PING").await.unwrap(), "+PONG");
        connections.push(connection);
    }
    assert_eq!(proxy.cut_all().await, 3);
    for mut connection in connections {
        assert!(connection.is_cut().await);
    }
    assert_eq!(proxy.counts().cut_all, 3);
    assert_eq!(request(proxy.address(), "PING").await, "+PONG");
}

#[tokio::test]
async fn a_limit_on_replies_tears_a_message() {
    let (_redis, proxy) = start().await;
    let mut connection = Connection::to(proxy.address()).await;
    proxy.limit(Flow::Replies, "+PONG\r\n+PO".len());
    assert_eq!(connection.request("PING").await.unwrap(), "+PONG");
    connection.send("PING").await.unwrap();
    assert!(connection.is_cut().await);
    assert_eq!(proxy.counts().limited, 1);
    assert_eq!(request(proxy.address(), "PING").await, "+PONG");
}

#[tokio::test]
async fn a_request_that_is_torn_by_a_limit_is_not_executed() {
    let (redis, proxy) = start().await;
    let mut connection = Connection::to(proxy.address()).await;
    proxy.limit(Flow::Requests, 10);
    connection.send("SET a 1").await.unwrap();
    assert!(connection.is_cut().await);
    assert_eq!(request(redis.address(), "EXISTS a").await, ":0");
}
