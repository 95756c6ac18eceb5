//! A command without a lock is ended, and nobody is told that all was well.

use std::{fs, io::Read, process::Output, time::Instant};

use rustix::process::Signal;

use crate::sandbox::{KEY, Running, Sandbox, assert_code, full_pipe, is_alive, stdout, wait_until};

/// Returns the one line that the program has said, among those of a shell whose commands are killed.
#[track_caller]
fn last_words(output: &Output) -> &str {
    let said = str::from_utf8(&output.stderr).unwrap();
    let [line] =
        said.lines().filter(|line| line.starts_with("syncguard: ")).collect::<Vec<_>>()[..]
    else {
        panic!("{said}")
    };
    line
}

const STUBBORN: &str = "trap '' TERM; echo $$; while :; do sleep 0.05; done";
const TIDY: &str = "trap 'touch tidied; exit' TERM; echo ready; while :; do sleep 0.05; done";

#[tokio::test]
async fn a_command_that_ignores_term_is_killed_before_its_lease_would_have_ended() {
    let sandbox = Sandbox::new();
    let mut running = Running::start(&mut sandbox.run(&["--ttl", "3s"], STUBBORN));
    let command = running.line();
    let taken = Instant::now();
    let lock = sandbox.locks().await.force_release(KEY).await.unwrap().unwrap();
    let output = running.ended();
    assert!(taken.elapsed() < lock.remaining, "{:?} of {:?}", taken.elapsed(), lock.remaining);
    assert_code(&output, 76);
    assert!(last_words(&output).contains("the lock was lost"), "{}", last_words(&output));
    assert!(!is_alive(&command));
}

#[tokio::test]
async fn a_command_without_a_lock_is_killed_although_nobody_reads_the_message() {
    let sandbox = Sandbox::new();
    let (mut reader, stderr) = full_pipe();
    let mut run = sandbox.run(&["--ttl", "3s"], STUBBORN);
    let mut running = Running::start_with(&mut run, stderr);
    drop(run);
    let command = running.line();
    sandbox.locks().await.force_release(KEY).await.unwrap().unwrap();
    assert_code(&running.ended(), 76);
    assert!(!is_alive(&command));
    // It had something to say, and no room to say it.
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert_eq!(said.trim_matches('.'), "");
}

#[test]
fn a_refusal_ends_the_program_although_nobody_reads_the_message() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&[]);
    let (_reader, stderr) = full_pipe();
    let refused = Running::start_with(&mut sandbox.run(&["--no-wait"], "true"), stderr);
    assert_code(&refused.ended(), 75);
    assert_code(&holder.finish(), 0);
}

#[tokio::test]
async fn what_the_command_started_is_killed_too() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("stubborn.sh"), STUBBORN).unwrap();
    let script = "sh stubborn.sh & wait";
    let mut running = Running::start(&mut sandbox.run(&["--ttl", "3s"], script));
    let grandchild = running.line();
    sandbox.locks().await.force_release(KEY).await.unwrap().unwrap();
    assert_code(&running.ended(), 76);
    wait_until("the grandchild is dead", || !is_alive(&grandchild));
}

#[tokio::test]
async fn a_command_that_minds_term_may_tidy_up() {
    let sandbox = Sandbox::new();
    let mut running = Running::start(&mut sandbox.run(&["--ttl", "30s"], TIDY));
    assert_eq!(running.line(), "ready");
    sandbox.locks().await.force_release(KEY).await.unwrap().unwrap();
    assert_code(&running.ended(), 76);
    assert!(sandbox.path("tidied").exists());
}

#[test]
fn a_command_that_holds_the_lock_for_too_long_is_ended_and_the_lock_released() {
    let sandbox = Sandbox::new();
    let mut running = Running::start(&mut sandbox.run(&["--max-hold", "3s"], TIDY));
    assert_eq!(running.line(), "ready");
    let output = running.ended();
    assert_code(&output, 76);
    assert!(last_words(&output).contains("held for as long"), "{}", last_words(&output));
    assert!(sandbox.path("tidied").exists());
    assert_code(&sandbox.run(&["--no-wait"], "true").output().unwrap(), 0);
}

#[test]
fn a_program_that_stood_still_past_its_ttl_kills_the_command_as_soon_as_it_wakes() {
    let sandbox = Sandbox::new();
    let mut running = Running::start(&mut sandbox.run(&["--ttl", "3s"], TIDY));
    assert_eq!(running.line(), "ready");
    running.signal(Signal::STOP);
    // Somebody else having the lock proves that it was lost meanwhile.
    assert_code(&sandbox.run(&["--wait", "60s"], "true").output().unwrap(), 0);
    running.signal(Signal::CONT);
    let output = running.ended();
    assert_code(&output, 76);
    assert!(last_words(&output).contains("its deadline passed"), "{}", last_words(&output));
    assert!(!sandbox.path("tidied").exists(), "there was no time left to tidy up in");
}

#[tokio::test]
async fn a_lock_that_was_taken_away_unnoticed_is_told_at_the_end() {
    let sandbox = Sandbox::new();
    // The first renewal is far away.
    let holder = sandbox.hold(&["--ttl", "10m"]);
    sandbox.locks().await.force_release(KEY).await.unwrap().unwrap();
    let output = holder.finish();
    assert_code(&output, 76);
    assert!(last_words(&output).contains("may have overlapped another"));
}

#[test]
fn a_release_that_fails_is_told_and_leaves_the_commands_code() {
    let sandbox = Sandbox::new();
    let script = "rm locks.db*; echo no database > locks.db; echo spoilt; exit 5";
    let output = sandbox.run(&[], script).output().unwrap();
    assert_eq!(stdout(&output), "spoilt");
    assert_code(&output, 5);
    assert!(last_words(&output).contains("warning: the lock is left to its ttl"));
}

#[test]
fn a_holder_whose_log_is_deleted_ends_because_the_file_gives_its_lock_away_again() {
    let sandbox = Sandbox::new();
    let script = format!("echo $SYNCGUARD_FENCE; {STUBBORN}");
    let mut running = Running::start(&mut sandbox.run(&["--ttl", "3s"], &script));
    let fence = running.line();
    for side in ["locks.db-wal", "locks.db-shm"] {
        fs::remove_file(sandbox.path(side)).unwrap();
    }
    let script = "echo $SYNCGUARD_FENCE; read line; exit 0";
    let mut next = Running::start(&mut sandbox.run(&["--no-wait"], script));
    assert_eq!(next.line(), fence, "the fault did not strike");
    let output = running.ended();
    assert_code(&output, 76);
    assert!(last_words(&output).contains("the lock was lost"), "{}", last_words(&output));
    assert_code(&next.finish(), 0);
}
