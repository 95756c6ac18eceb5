use std::time::{Duration, Instant};

use syncguard_testkit::{
    proxy::{Flow, Occurrences, Proxy, RespArrays},
    server::RedisServer,
};
use tokio::net::TcpStream;

use crate::resp::{Connection, request};

async fn start() -> (RedisServer, Proxy) {
    let redis = RedisServer::start().await.unwrap();
    let proxy = Proxy::start(redis.address()).await.unwrap();
    (redis, proxy)
}

#[tokio::test]
async fn a_proxy_without_faults_forwards_everything() {
    let (redis, proxy) = start().await;
    let long = "x".repeat(1_000_000);
    let set = format!("SET a {long}");
    assert_eq!(request(proxy.address(), &set).await, "+OK");
    assert_eq!(request(redis.address(), "STRLEN a").await, ":1000000");
    assert_eq!(request(proxy.address(), "GET a").await, long);
}

#[tokio::test]
async fn connections_requests_and_bytes_are_counted() {
    let (_redis, proxy) = start().await;
    let mut connection = Connection::to(proxy.address()).await;
    for _ in 0..3 {
        assert_eq!(connection.request("PING").await.unwrap(), "+PONG");
    }
    let counts = proxy.counts();
    assert_eq!((counts.connections, counts.requests, counts.replies), (1, 3, 3));
    let bytes = (counts.request_bytes, counts.reply_bytes);
    assert_eq!(bytes, (3 * "*1\r\n$4\r\nPING\r\n".len() as u64, 3 * "+PONG\r\n".len() as u64));
}

#[tokio::test]
async fn messages_are_also_counted_on_connections_that_were_open_already() {
    let (_redis, proxy) = start().await;
    let mut connection = Connection::to(proxy.address()).await;
    assert_eq!(connection.request("PING").await.unwrap(), "+PONG");
    let commands = proxy.tally(Flow::Requests, RespArrays::default);
    let pings = proxy.tally(Flow::Requests, || Occurrences::of("PING"));
    let pongs = proxy.tally(Flow::Replies, || Occurrences::of("+PONG"));
    connection.send("PING").await.unwrap();
    connection.send("ECHO PONG").await.unwrap();
    assert_eq!(connection.reply().await.unwrap(), "+PONG");
    assert_eq!(connection.reply().await.unwrap(), "PONG");
    assert_eq!(request(proxy.address(), "PING").await, "+PONG");
    assert_eq!((commands.total(), pings.total(), pongs.total()), (3, 2, 2));
}

#[tokio::test]
async fn a_delay_affects_both_directions_and_overlaps_for_pipelined_requests() {
    let (_redis, proxy) = start().await;
    let mut connection = Connection::to(proxy.address()).await;
    proxy.delay(Duration::from_millis(100));
    let started = Instant::now();
    for number in 0..20 {
        connection.send(&format!("ECHO {number}")).await.unwrap();
        tokio::task::yield_now().await;
    }
    for number in 0..20 {
        assert_eq!(connection.reply().await.unwrap(), number.to_string());
    }
    let elapsed = started.elapsed();
    // Without pipelining they would take four seconds.
    assert!(elapsed >= Duration::from_millis(200), "{elapsed:?}");
    assert!(elapsed < Duration::from_secs(3), "{elapsed:?}");
    let delayed = proxy.counts().delayed;
    assert!(delayed >= 2);
    proxy.heal().await.unwrap();
    assert_eq!(connection.request("PING").await.unwrap(), "+PONG");
    assert_eq!(proxy.counts().delayed, delayed);
}

#[tokio::test]
async fn requests_in_a_black_hole_are_never_executed() {
    let (redis, proxy) = start().await;
    let mut connection = Connection::to(proxy.address()).await;
    assert_eq!(connection.request("PING").await.unwrap(), "+PONG");
    proxy.black_hole(Flow::Requests);
    connection.send("SET a 1").await.unwrap();
    assert!(connection.is_silent().await);
    assert_eq!(proxy.counts().swallowed, 1);
    assert_eq!(request(redis.address(), "EXISTS a").await, ":0");
    proxy.heal().await.unwrap();
    assert_eq!(connection.request("PING").await.unwrap(), "+PONG");
}

#[tokio::test]
async fn requests_whose_replies_are_in_a_black_hole_are_executed() {
    let (redis, proxy) = start().await;
    proxy.black_hole(Flow::Replies);
    let mut connection = Connection::to(proxy.address()).await;
    connection.send("SET a 1").await.unwrap();
    proxy.until(|counts| counts.swallowed == 1).await;
    assert!(connection.is_silent().await);
    assert_eq!(request(redis.address(), "GET a").await, "1");
    assert_eq!(proxy.counts().connections, 1);
}

#[tokio::test]
async fn a_connection_that_was_idle_for_too_long_is_forgotten_without_notification() {
    let (redis, proxy) = start().await;
    let mut connection = Connection::to(proxy.address()).await;
    assert_eq!(connection.request("PING").await.unwrap(), "+PONG");
    proxy.forget_idle(Duration::from_millis(100));
    tokio::time::sleep(Duration::from_millis(300)).await;
    connection.send("SET a 1").await.unwrap();
    assert!(connection.is_silent().await);
    assert_eq!(proxy.counts().forgotten, 1);
    assert_eq!(request(redis.address(), "EXISTS a").await, ":0");
    proxy.heal().await.unwrap();
    assert_eq!(request(proxy.address(), "PING").await, "+PONG", "a new connection works");
    connection.send("SET a 1").await.unwrap();
    assert!(connection.is_silent().await, "and the old one stays forgotten");
}

#[tokio::test]
async fn a_proxy_that_refuses_connections_does_not_affect_open_ones() {
    let (_redis, proxy) = start().await;
    let mut open = Connection::to(proxy.address()).await;
    assert_eq!(open.request("PING").await.unwrap(), "+PONG");
    proxy.refuse().await;
    let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(open.request("PING").await.unwrap(), "+PONG");
    proxy.admit().await.unwrap();
    assert_eq!(request(proxy.address(), "PING").await, "+PONG");
}

#[tokio::test]
async fn connections_to_a_server_that_is_down_are_cut_until_it_is_restarted() {
    let (redis, proxy) = start().await;
    redis.kill().unwrap();
    assert!(Connection::to(proxy.address()).await.is_cut().await);
    redis.restart().await.unwrap();
    assert_eq!(request(proxy.address(), "PING").await, "+PONG");
}

#[tokio::test]
async fn a_dropped_proxy_closes_its_connections_and_its_port() {
    let (_redis, proxy) = start().await;
    let address = proxy.address();
    let mut connection = Connection::to(address).await;
    assert_eq!(connection.request("PING").await.unwrap(), "+PONG");
    drop(proxy);
    assert!(connection.is_cut().await);
    let started = Instant::now();
    while TcpStream::connect(address).await.is_ok() {
        assert!(started.elapsed() < Duration::from_secs(10));
        tokio::task::yield_now().await;
    }
}
