//! The program in the loops of a shell, and with an output that nobody reads.

use std::{fs, io::Read, process::Command, time::Duration};

use syncguard::LockManager;
use syncguard_testkit::server::RedisServer;

use crate::sandbox::{
    KEY, Running, Sandbox, assert_code, full_pipe, lookup, only_line, outlives, program, stdout,
};

/// A shell script that is in a directory of a sandbox, and calls the program `syncguard run`.
fn shell(sandbox: &Sandbox, script: &str) -> Command {
    let run = format!(
        "run() {{ '{}' run --store 'sqlite:{}' \"$@\"; }}\n",
        program().get_program().display(),
        sandbox.store().display()
    );
    let mut shell = Command::new("sh");
    shell.current_dir(sandbox.path(".")).args(["-c", &(run + script)]);
    // As the program in a sandbox: it must not find a store of the user's own.
    shell.env_remove("SYNCGUARD_STORE").env_remove("XDG_STATE_HOME").env_remove("HOME");
    shell
}

#[tokio::test]
async fn a_program_whose_messages_nobody_reads_runs_its_command_renews_and_releases() {
    // Such a server is warned of, so there is something to say before the command runs.
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
    assert_eq!(running.line(), "held");
    outlives(&locks, Duration::from_secs(3)).await;
    assert_code(&running.finish(), 7);
    assert!(lookup(&locks).await.is_none(), "released, and not left to the ttl");
    // The message found no room, so the pipe was full all the time.
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert_eq!(said.trim_matches('.'), "");
}

#[test]
fn a_loop_until_the_lock_is_had_ends_when_it_is() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&[]);
    let script = "while ! run --key nightly-report --no-wait -- touch ran; do \
                  echo refused $?; read line; done; echo ended $?";
    let mut looping = Running::start(&mut shell(&sandbox, script));
    for _ in 0..3 {
        // `!` has made a success of the refusal.
        assert_eq!(looping.line(), "refused 0");
        assert!(!sandbox.path("ran").exists());
        looping.type_in("again\n");
    }
    assert_eq!(looping.line(), "refused 0");
    assert_code(&holder.finish(), 0);
    looping.type_in("again\n");
    assert_eq!(looping.line(), "ended 0");
    assert!(sandbox.path("ran").exists());
    assert_code(&looping.finish(), 0);
}

#[test]
fn every_turn_of_a_loop_has_the_lock_anew() {
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
    // All at once, so that a program that reads ahead would find something.
    looping.type_in("a\nb\nc\nd\n");
    assert_eq!(looping.line(), "b");
    assert_eq!(looping.line(), "d");
    assert_code(&looping.finish(), 0);
}

#[test]
fn a_refused_turn_of_a_loop_takes_no_line() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&[]);
    let script =
        "while read line; do run --key nightly-report --no-wait -- cat; echo $? $line; done";
    let mut looping = Running::start(&mut shell(&sandbox, script));
    looping.type_in("a\nb\n");
    assert_eq!(looping.line(), "75 a");
    assert_eq!(looping.line(), "75 b");
    assert_code(&looping.finish(), 0);
    assert_code(&holder.finish(), 0);
}
