use syncguard_testkit::server::{RedisServer, ServerError};

use crate::resp::{Connection, request};

async fn durable() -> RedisServer {
    let redis = RedisServer::builder().setting("appendonly", "yes");
    redis.setting("appendfsync", "always").start().await.unwrap()
}

#[tokio::test]
async fn a_started_server_has_its_settings() {
    let redis = RedisServer::builder()
        .setting("maxmemory-policy", "allkeys-lru")
        .setting("maxmemory-policy", "noeviction")
        .setting("save", "")
        .start()
        .await
        .unwrap();
    let setting = request(redis.address(), "CONFIG GET maxmemory-policy").await;
    assert_eq!(setting, "maxmemory-policy noeviction");
    assert_eq!(request(redis.address(), "CONFIG GET save").await, "save ");
    assert_eq!(redis.url(), format!("redis://127.0.0.1:{}", redis.port()));
}

#[tokio::test]
async fn a_killed_server_loses_the_data_in_its_memory() {
    let redis = RedisServer::start().await.unwrap();
    assert_eq!(request(redis.address(), "SET a 1").await, "+OK");
    redis.kill().unwrap();
    redis.restart().await.unwrap();
    assert_eq!(request(redis.address(), "GET a").await, "(nil)");
}

#[tokio::test]
async fn a_killed_server_recovers_the_data_that_it_appended_to_its_file() {
    let redis = durable().await;
    assert_eq!(request(redis.address(), "SET a 1").await, "+OK");
    redis.kill().unwrap();
    redis.restart().await.unwrap();
    assert_eq!(request(redis.address(), "GET a").await, "1");
}

#[tokio::test]
async fn a_server_that_shuts_down_gracefully_saves_the_data_in_its_memory() {
    let redis = RedisServer::start().await.unwrap();
    assert_eq!(request(redis.address(), "SET a 1").await, "+OK");
    redis.terminate().await.unwrap();
    assert_eq!(redis.pid(), None);
    redis.restart().await.unwrap();
    assert_eq!(request(redis.address(), "GET a").await, "1");
}

#[tokio::test]
async fn a_restart_keeps_the_port_and_the_data_and_changes_the_process() {
    let redis = durable().await;
    let (address, pid) = (redis.address(), redis.pid());
    assert_eq!(request(address, "SET a 1").await, "+OK");
    redis.restart().await.unwrap();
    assert_eq!(redis.address(), address);
    assert_ne!(redis.pid(), pid);
    assert_eq!(request(address, "GET a").await, "1");
}

#[tokio::test]
async fn a_paused_server_does_not_answer_until_it_is_resumed() {
    let redis = RedisServer::start().await.unwrap();
    let mut connection = Connection::to(redis.address()).await;
    redis.pause().unwrap();
    connection.send("SET a 1").await.unwrap();
    assert!(connection.is_silent().await);
    redis.resume().unwrap();
    assert_eq!(connection.reply().await.unwrap(), "+OK");
}

#[tokio::test]
async fn a_paused_server_can_be_killed_restarted_and_terminated() {
    let redis = durable().await;
    redis.pause().unwrap();
    redis.kill().unwrap();
    redis.restart().await.unwrap();
    redis.pause().unwrap();
    redis.terminate().await.unwrap();
    redis.restart().await.unwrap();
    assert_eq!(request(redis.address(), "PING").await, "+PONG");
}

#[tokio::test]
async fn operations_on_a_dead_server_return_not_running() {
    let redis = RedisServer::start().await.unwrap();
    redis.kill().unwrap();
    assert!(matches!(redis.kill(), Err(ServerError::NotRunning)));
    assert!(matches!(redis.pause(), Err(ServerError::NotRunning)));
    assert!(matches!(redis.resume(), Err(ServerError::NotRunning)));
    let ended = redis.terminate().await;
    assert!(matches!(ended, Err(ServerError::NotRunning)));
}

#[tokio::test]
async fn a_command_is_run_by_the_command_line_client() {
    let redis = RedisServer::start().await.unwrap();
    assert_eq!(redis.command(&["SET", "a", "1"]).await.unwrap(), "OK");
    assert_eq!(request(redis.address(), "GET a").await, "1");
    let refused = redis.command(&["HGET", "a", "b"]).await.unwrap_err();
    assert!(refused.to_string().contains("WRONGTYPE"), "{refused}");
}

#[tokio::test]
async fn the_error_of_a_server_that_refuses_its_settings_contains_its_log() {
    let refused = RedisServer::builder().setting("no-such-setting", "1").start();
    let refused = refused.await.unwrap_err();
    assert!(matches!(refused, ServerError::Exited { .. }), "{refused}");
    assert!(refused.to_string().contains("no-such-setting"), "{refused}");
}
