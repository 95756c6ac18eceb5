//! The wait covers a store that is down and one that does not answer.

use std::{net::TcpListener, process::Command};

use syncguard_testkit::server::{PostgresServer, RedisServer};

use crate::sandbox::{KEY, Running, assert_code, only_line, program};

fn run(url: &str, options: &[&str]) -> Command {
    let mut program = program();
    program.args(["run", "--key", KEY]).args(options).args(["--", "echo", "ran"]);
    program.env("SYNCGUARD_STORE", url);
    program
}

#[tokio::test]
async fn a_server_that_is_down_is_waited_for() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("redis://127.0.0.1:{port}");
    let mut waiting = Running::start_with(
        &mut run(&url, &["--wait", "60s", "--verbose"]),
        std::process::Stdio::piped(),
    );
    let line = waiting.read_error_line();
    assert!(line.contains("the store cannot be opened yet"), "{line}");
    let server = RedisServer::builder().ports([port]).start().await.unwrap();
    assert_eq!(waiting.read_line(), "ran");
    assert_code(&waiting.wait(), 0);
    drop(server);
}

#[tokio::test]
async fn a_server_that_does_not_answer_ends_with_the_wait() {
    let redis = RedisServer::start().await.unwrap();
    let postgres = PostgresServer::start().await.unwrap();
    redis.pause().unwrap();
    postgres.pause().unwrap();
    for url in [redis.url(), postgres.url()] {
        let output = run(&url, &["--wait", "300ms"]).output().unwrap();
        assert_code(&output, 69);
        // Without the limit, the connection times out by itself, for another reason.
        let line = only_line(&output);
        assert!(line.contains("the store did not answer within the wait"), "{line}");
    }
    redis.resume().unwrap();
    postgres.resume().unwrap();
}
