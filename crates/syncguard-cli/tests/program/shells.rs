//! The program in the loops of a shell, and with an output that no one reads.

use std::{fs, io::Read, process::Command, time::Duration};

use syncguard::LockManager;
use syncguard_testkit::server::RedisServer;

use crate::sandbox::{
    KEY, Running, Sandbox, assert_code, full_pipe, lookup, only_line, program, stdout,
    wait_past_expiry,
};

/// Returns a shell script that runs in the directory of a sandbox, with a function `run` for
/// `syncguard run`.
fn shell(sandbox: &Sandbox, script: &str) -> Command {
    let run = format!(
        "run() {{ '{}' run --store 'sqlite:{}' \"$@\"; }}\n",
        program().get_program().display(),
        sandbox.store().display()
    );
    let mut shell = Command::new("sh");
    shell.current_dir(sandbox.path(".")).args(["-c", &(run + script)]);
    // As for the program in a sandbox: it must not use the default store of the user.
    shell.env_remove("SYNCGUARD_STORE").env_remove("XDG_STATE_HOME").env_remove("HOME");
    shell
}

#[tokio::test]
async fn a_program_whose_messages_no_one_reads_runs_its_command_renews_and_releases() {
    // The program warns about such a server, so there is a message before the command runs.
    let server = RedisServer::builder().setting("appendonly", "no").start().await.unwrap();
    let locks = LockManager::new(syncguard::connect(&server.url()).await.unwrap());
    let run = |script: &str| {
        let mut run = program();
        run.args(["run", "--key", KEY, "--ttl", "3s", "--", "sh", "-c", script]);
        run.env("SYNCGUARD_STORE", server.url());
        run
    };
    assert!(only_line(&run("true").output().unwrap()).contains("warning"));

    let (mut reader, stderr) = full_pipe();
    let mut held = run("echo held; read line; exit 7");
    let mut running = Running::start_with(&mut held, stderr);
    drop(held);
    assert_eq!(running.read_line(), "held");
    wait_past_expiry(&locks, Duration::from_secs(3)).await;
    assert_code(&running.finish(), 7);
    assert!(lookup(&locks).await.is_none(), "released, and not left to the ttl");
    // There was no room for the message, so the pipe was full all the time.
    let mut stderr_text = String::new();
    reader.read_to_string(&mut stderr_text).unwrap();
    assert_eq!(stderr_text.trim_matches('.'), "");
}

#[test]
fn a_loop_until_the_lock_is_acquired_ends_when_it_is() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&[]);
    let script = "while ! run --key nightly-report --no-wait -- touch ran; do \
                  echo refused $?; read line; done; echo ended $?";
    let mut looping = Running::start(&mut shell(&sandbox, script));
    for _ in 0..3 {
        // `!` has inverted the exit code of the refusal.
        assert_eq!(looping.read_line(), "refused 0");
        assert!(!sandbox.path("ran").exists());
        looping.write_stdin("again\n");
    }
    assert_eq!(looping.read_line(), "refused 0");
    assert_code(&holder.finish(), 0);
    looping.write_stdin("again\n");
    assert_eq!(looping.read_line(), "ended 0");
    assert!(sandbox.path("ran").exists());
    assert_code(&looping.finish(), 0);
}

#[test]
fn every_iteration_of_a_loop_acquires_the_lock_again() {
    let sandbox = Sandbox::new();
    let script = "for i in 1 2 3; do run --key k -- sh -c 'echo '$i' $SYNCGUARD_FENCE'; done";
    let output = shell(&sandbox, script).output().unwrap();
    assert_code(&output, 0);
    let turns = ["1 000000000000001", "2 000000000000002", "3 000000000000003"];
    assert_eq!(stdout(&output).lines().collect::<Vec<_>>(), turns);
    assert!(output.stderr.is_empty());
}

#[test]
fn a_loop_over_lines_keeps_those_that_the_command_does_not_read() {
    let sandbox = Sandbox::new();
    let lines: String = (1..=20).map(|line| format!("{line}\n")).collect();
    fs::write(sandbox.path("lines"), lines).unwrap();
    for (command, expected) in [
        // A command that reads nothing leaves all lines to the loop.
        ("true", (1..=20).collect::<Vec<_>>()),
        // One that reads a line takes it from the loop, and only that one.
        ("sh -c 'read taken'", (1..=20).step_by(2).collect()),
        ("sh -c 'exec cat > /dev/null'", vec![1]),
    ] {
        let script =
            format!("while read line; do run --key k -- {command}; echo $line; done < lines");
        let output = shell(&sandbox, &script).output().unwrap();
        assert_code(&output, 0);
        let turns: Vec<u32> = stdout(&output).lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(turns, expected, "{command}");
    }
}

#[test]
fn a_loop_over_a_pipe_keeps_what_the_command_does_not_read() {
    let sandbox = Sandbox::new();
    let script = "while read line; do run --key k -- sh -c 'read taken; echo $taken'; done";
    let mut looping = Running::start(&mut shell(&sandbox, script));
    // All at once, so that a program that reads ahead would consume them.
    looping.write_stdin("a\nb\nc\nd\n");
    assert_eq!(looping.read_line(), "b");
    assert_eq!(looping.read_line(), "d");
    assert_code(&looping.finish(), 0);
}

#[test]
fn a_refused_iteration_of_a_loop_consumes_no_line() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&[]);
    let script =
        "while read line; do run --key nightly-report --no-wait -- cat; echo $? $line; done";
    let mut looping = Running::start(&mut shell(&sandbox, script));
    looping.write_stdin("a\nb\n");
    assert_eq!(looping.read_line(), "75 a");
    assert_eq!(looping.read_line(), "75 b");
    assert_code(&looping.finish(), 0);
    assert_code(&holder.finish(), 0);
}
