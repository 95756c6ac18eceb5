//! Locks on a server instead of a file.

use std::process::Command;

use syncguard_tests::server::RedisServer;

use crate::sandbox::{KEY, Running, assert_code, only_line, program, stdout};

fn on(url: &str, verb: &str, rest: &[&str]) -> Command {
    let mut program = program();
    program.args([verb, "--key", KEY]).args(rest).env("SYNCGUARD_STORE", url);
    program
}

#[tokio::test]
async fn two_programs_exclude_each_other_on_a_redis_server() {
    let server = RedisServer::builder().setting("appendonly", "yes").start().await.unwrap();
    let url = server.url();
    let held = ["--owner", "first", "--", "sh", "-c", "echo held; read line; exit 0"];
    let mut holder = Running::start(&mut on(&url, "run", &held));
    assert_eq!(holder.line(), "held");

    let shown = on(&url, "status", &[]).output().unwrap();
    assert!(stdout(&shown).starts_with("held by first under fence 000000000000001"), "{shown:?}");
    let refused = on(&url, "run", &["--no-wait", "--", "true"]).output().unwrap();
    assert_code(&refused, 75);

    assert_code(&holder.finish(), 0);
    assert_eq!(stdout(&on(&url, "status", &[]).output().unwrap()), "free");
}

#[tokio::test]
async fn a_server_that_forgets_is_told_before_the_command_runs() {
    let server = RedisServer::builder().setting("appendonly", "no").start().await.unwrap();
    let output = on(&server.url(), "run", &["--", "echo", "done"]).output().unwrap();
    assert_code(&output, 0);
    assert_eq!(stdout(&output), "done");
    assert!(
        only_line(&output).contains("appendonly no: a restart takes back grants"),
        "{output:?}"
    );
}

/// Two providers of cryptography in one program would panic at the first use of TLS.
#[tokio::test]
async fn a_server_that_does_not_speak_tls_cannot_be_used_over_it() {
    let server = RedisServer::builder().start().await.unwrap();
    let url = server.url().replace("redis://", "rediss://");
    let output = on(&url, "run", &["--", "true"]).output().unwrap();
    assert_code(&output, 69);
    only_line(&output);
}
