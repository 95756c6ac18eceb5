//! The options of `run` that are about waiting, holding and reporting.

use std::process::Stdio;

use syncguard_testkit::server::RedisServer;

use crate::sandbox::{
    KEY, Running, Sandbox, assert_code, lookup, only_line, program, stdout, wait_past_expiry,
};

#[test]
fn a_lock_can_be_waited_for_without_a_limit() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&[]);
    let mut waiter = Running::start(&mut sandbox.run(&["--wait", "forever"], "echo ran"));
    waiter.wait_for_store(&sandbox.store());
    assert_code(&holder.finish(), 0);
    assert_eq!(waiter.read_line(), "ran");
    assert_code(&waiter.wait(), 0);
}

#[test]
fn the_exit_code_of_a_conflict_can_be_chosen() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&[]);
    for wait in [&["--no-wait"][..], &["--wait", "50ms"]] {
        let options = [wait, &["--conflict-exit-code", "0"]].concat();
        let output = sandbox.run(&options, "echo ran").output().unwrap();
        assert_code(&output, 0);
        assert!(only_line(&output).contains("not run") && output.stdout.is_empty());
    }
    assert_code(&holder.finish(), 0);
    // The code of a command that ran is its own.
    let output = sandbox.run(&["--conflict-exit-code", "0"], "exit 75").output().unwrap();
    assert_code(&output, 75);
}

#[tokio::test]
async fn a_lock_outlasts_its_command_until_its_minimum_or_its_ttl() {
    for options in [["--min-hold", "1h"].as_slice(), &["--keep"]] {
        let sandbox = Sandbox::new();
        let options = [options, &["--ttl", "1h"]].concat();
        let output = sandbox.run(&options, "exit 3").output().unwrap();
        assert_code(&output, 3);
        assert!(output.stderr.is_empty(), "{output:?}");
        let record = lookup(&sandbox.locks().await).await;
        assert!(record.is_some(), "{options:?}");
        assert_code(&sandbox.run(&["--no-wait"], "true").output().unwrap(), 75);
    }
}

#[tokio::test]
async fn each_of_several_locks_that_are_kept_stays() {
    let sandbox = Sandbox::new();
    let output = sandbox.run(&["--key", "b", "--keep", "--ttl", "1h"], "true").output().unwrap();
    assert_code(&output, 0);
    let locks = sandbox.locks().await;
    for key in [KEY, "b"] {
        assert!(locks.is_locked(key).await.unwrap(), "{key}");
    }
}

#[tokio::test]
async fn a_lock_that_is_kept_is_renewed_while_its_command_runs() {
    let sandbox = Sandbox::new();
    let ttl = std::time::Duration::from_millis(600);
    let holder = sandbox.hold(&["--keep", "--ttl", "600ms"]);
    wait_past_expiry(&sandbox.locks().await, ttl).await;
    assert_code(&holder.finish(), 0);
}

#[test]
fn a_text_is_run_by_a_shell() {
    let sandbox = Sandbox::new();
    let mut program = sandbox.program("run");
    let output = program.args(["-c", "echo $((1 + 1)) | tr 2 3; exit 4"]).output().unwrap();
    assert_code(&output, 4);
    assert_eq!(stdout(&output), "3");
}

#[tokio::test]
async fn a_quiet_program_prints_errors_but_no_warnings() {
    let server = RedisServer::builder().setting("appendonly", "no").start().await.unwrap();
    let run = |script: &str| {
        let run = ["run", "--key", KEY, "--no-wait", "--quiet", "--store", &server.url()];
        program().args(run).args(["--", "sh", "-c", script]).output().unwrap()
    };
    let output = run("exit 0");
    assert_code(&output, 0);
    assert!(output.stderr.is_empty(), "{output:?}");
    let held = ["run", "--key", KEY, "--store", &server.url(), "--"];
    let mut holder =
        Running::start(program().args(held).args(["sh", "-c", "echo held; read line; exit 0"]));
    assert_eq!(holder.read_line(), "held");
    let output = run("exit 0");
    assert_code(&output, 75);
    assert!(only_line(&output).contains("not run"));
    assert_code(&holder.finish(), 0);
}

#[test]
fn a_verbose_program_prints_each_step_and_its_time() {
    let sandbox = Sandbox::new();
    let output = sandbox.run(&["--verbose"], "exit 3").output().unwrap();
    assert_code(&output, 3);
    let stderr = String::from_utf8(output.stderr).unwrap();
    let steps: Vec<_> =
        stderr.lines().map(|line| line.strip_prefix("syncguard: ").unwrap()).collect();
    let expected = [
        "the store is open",
        "the lock is held, for 30s",
        "the command runs as process",
        "the command has ended: exit code 3",
        "the lock is released",
    ];
    assert_eq!(steps.len(), expected.len(), "{stderr}");
    for (step, expected) in steps.iter().zip(expected) {
        let (time, step) = step.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "{time}");
        assert!(step.starts_with(expected), "{step}");
    }
}

#[test]
fn a_verbose_program_prints_renewals() {
    for keys in [&[][..], &["--key", "b"]] {
        let sandbox = Sandbox::new();
        let options = [keys, &["--verbose", "--ttl", "600ms"]].concat();
        let mut program = sandbox.run(&options, "read line; exit 0");
        let mut running = Running::start_with(&mut program, Stdio::piped());
        for _ in 0..2 {
            while !running.read_error_line().contains("the lock is renewed, for 600ms") {}
        }
        assert_code(&running.finish(), 0);
    }
}
