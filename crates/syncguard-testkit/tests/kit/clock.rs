use std::time::Duration;

use syncguard_testkit::{
    clock::{ClockShim, Jump},
    server::{PostgresServer, RedisServer},
};

use crate::resp::request;

const JUMP: Duration = Duration::from_secs(31);

/// Returns how far the clock of the server is clock_offset of that of this host, in seconds.
async fn clock_offset(redis: &RedisServer) -> f64 {
    let time = request(redis.address(), "TIME").await;
    let mut parts = time.split(' ').map(|part| part.parse::<f64>().unwrap());
    let server = parts.next().unwrap() + parts.next().unwrap() / 1e6;
    server - now()
}

fn now() -> f64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
}

fn assert_about(difference: f64, expected: f64) {
    assert!((difference - expected).abs() < 1.0, "{difference} for {expected}");
}

#[tokio::test]
async fn the_clock_of_redis_jumps_forward_and_back() {
    let clock = ClockShim::build().await.unwrap();
    let redis = RedisServer::builder().envs(clock.env()).start().await.unwrap();
    assert_about(clock_offset(&redis).await, 0.0);
    clock.step(JUMP, Jump::Forward).unwrap();
    assert_about(clock_offset(&redis).await, 31.0);
    clock.step(JUMP, Jump::Back).unwrap();
    assert_about(clock_offset(&redis).await, 0.0);
    clock.step(Duration::from_millis(2500), Jump::Back).unwrap();
    assert_about(clock_offset(&redis).await, -2.5);
}

#[tokio::test]
async fn a_key_expires_when_the_clock_jumps_past_its_expiry() {
    let clock = ClockShim::build().await.unwrap();
    let redis = RedisServer::builder().envs(clock.env()).start().await.unwrap();
    assert_eq!(request(redis.address(), "SET a 1 PX 30000").await, "+OK");
    assert_eq!(request(redis.address(), "GET a").await, "1");
    clock.step(JUMP, Jump::Forward).unwrap();
    assert_eq!(request(redis.address(), "GET a").await, "(nil)");
}

#[tokio::test]
async fn each_clock_affects_only_its_own_servers() {
    let clocks = [ClockShim::build().await.unwrap(), ClockShim::build().await.unwrap()];
    let one = RedisServer::builder().envs(clocks[0].env()).start().await.unwrap();
    let other = RedisServer::builder().envs(clocks[1].env()).start().await.unwrap();
    clocks[0].step(JUMP, Jump::Forward).unwrap();
    assert_about(clock_offset(&one).await, 31.0);
    assert_about(clock_offset(&other).await, 0.0);
}

#[tokio::test]
async fn the_clock_of_a_server_that_runs_as_another_user_jumps() {
    let clock = ClockShim::build().await.unwrap();
    let postgres = PostgresServer::builder().envs(clock.env()).start().await.unwrap();
    clock.step(JUMP, Jump::Forward).unwrap();
    let query = ["-c", "SELECT extract(epoch FROM clock_timestamp())"];
    let time: f64 = postgres.command(&query).await.unwrap().parse().unwrap();
    assert_about(time - now(), 31.0);
}
