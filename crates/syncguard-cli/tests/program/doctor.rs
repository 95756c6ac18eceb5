//! The `doctor` subcommand.

use std::process::Output;

use syncguard_testkit::server::{MariadbServer, PostgresServer, RedisServer};

use crate::sandbox::{Sandbox, assert_code, lookup, only_line, program, stdout};

fn examine(url: &str, options: &[&str]) -> Output {
    program().arg("doctor").args(options).env("SYNCGUARD_STORE", url).output().unwrap()
}

/// Returns the first two words of each line: the verdict, and the beginning of what it is about.
fn verdicts(output: &Output) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    stdout(output).lines().map(words).collect()
}

/// What is printed of a store in which locks work.
const WORKS: [&str; 10] = [
    "ok round",
    "ok acquire:",
    "ok clocks:",
    "ok extend:",
    "ok release:",
    "ok wake-up:",
    "ok list:",
    "ok release",
    "ok store:",
    "ok settings:",
];

#[tokio::test]
async fn a_store_in_which_locks_work_and_are_safe_is_ok() {
    let sandbox = Sandbox::new();
    let output = sandbox.command(&["doctor"]).output().unwrap();
    assert_code(&output, 0);
    assert!(output.stderr.is_empty(), "{output:?}");
    let expected: Vec<_> = WORKS[8..].iter().chain(&WORKS[..8]).copied().collect();
    assert_eq!(verdicts(&output), expected);
    assert!(lookup(&sandbox.locks().await).await.is_none(), "the lock is released");
}

#[tokio::test]
async fn a_waiter_is_notified_on_servers() {
    let redis = RedisServer::builder().setting("appendonly", "yes").start().await.unwrap();
    let postgres = PostgresServer::start().await.unwrap();
    for url in [redis.url(), postgres.url()] {
        let output = examine(&url, &[]);
        assert_code(&output, 0);
        assert!(stdout(&output).contains("wake-up: a waiter was notified"), "{output:?}");
    }
    let mariadb = MariadbServer::start().await.unwrap();
    let output = examine(&mariadb.url(), &[]);
    assert!(stdout(&output).contains("ok       wake-up: "), "{output:?}");
}

#[tokio::test]
async fn a_setting_that_breaks_a_guarantee_is_unsafe() {
    let server = RedisServer::builder().setting("appendonly", "no").start().await.unwrap();
    let output = examine(&server.url(), &[]);
    assert_code(&output, 78);
    let line = "unsafe   appendonly no: a restart takes back grants and fences: two holders, with \
                fences that repeat; set appendonly yes";
    assert!(stdout(&output).lines().any(|found| found == line), "{output:?}");
    // Locks work nevertheless.
    assert_eq!(verdicts(&output)[2..], WORKS[..8]);
}

#[tokio::test]
async fn what_could_not_be_looked_at_is_said() {
    let server = RedisServer::builder().setting("appendonly", "yes").start().await.unwrap();
    let rule = ["ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all", "-config"];
    server.command(&rule).await.unwrap();
    let url = server.url().replace("redis://", "redis://u:p@");
    let output = examine(&url, &[]);
    assert_code(&output, 0);
    assert!(stdout(&output).contains("unknown  appendfsync: it could not be read"), "{output:?}");
    assert!(stdout(&output).ends_with("not allowed to look at: appendfsync"), "{output:?}");
    assert_code(&examine(&url, &["--strict"]), 78);
    assert_code(&examine(&server.url(), &["--strict"]), 78);
}

#[tokio::test]
async fn a_missing_right_is_named_with_the_operation_that_needs_it() {
    let server = RedisServer::builder().setting("appendonly", "yes").start().await.unwrap();
    let rule = ["ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all", "-@scripting"];
    server.command(&rule).await.unwrap();
    let output = examine(&server.url().replace("redis://", "redis://u:p@"), &[]);
    assert_code(&output, 69);
    let last = stdout(&output).lines().last().unwrap();
    assert!(last.starts_with("failed   ") && last.contains("the store denied access"), "{last}");
}

#[test]
fn a_store_that_excludes_no_other_process_is_unsafe() {
    let output = examine("memory:", &[]);
    assert_code(&output, 78);
    assert!(stdout(&output).contains("unsafe   exclusion: another connection does not see"));
}

#[test]
fn a_store_that_cannot_be_opened_is_an_error() {
    let output = examine("redis://127.0.0.1:7", &[]);
    assert_code(&output, 69);
    assert!(only_line(&output).contains("Connection refused"), "{output:?}");
}
