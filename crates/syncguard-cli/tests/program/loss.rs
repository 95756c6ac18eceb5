//! A command that has lost its lock is ended, and the program does not report success.

use std::{fs, io::Read, process::Output, time::Instant};

use rustix::process::Signal;

use crate::sandbox::{KEY, Running, Sandbox, assert_code, full_pipe, is_alive, stdout, wait_until};

/// Returns the only line that the program has printed to stderr, among those of a shell whose
/// commands are killed.
#[track_caller]
fn message(output: &Output) -> &str {
    let stderr = str::from_utf8(&output.stderr).unwrap();
    let [line] =
        stderr.lines().filter(|line| line.starts_with("syncguard: ")).collect::<Vec<_>>()[..]
    else {
        panic!("{stderr}")
    };
    line
}

const IGNORES_TERM: &str = "trap '' TERM; echo $$; while :; do sleep 0.05; done";
const CLEANS_UP_ON_TERM: &str =
    "trap 'touch tidied; exit' TERM; echo ready; while :; do sleep 0.05; done";

#[tokio::test]
async fn a_command_that_ignores_term_is_killed_before_its_lease_would_have_expired() {
    let sandbox = Sandbox::new();
    let mut running = Running::start(&mut sandbox.run(&["--ttl", "3s"], IGNORES_TERM));
    let command = running.read_line();
    let taken = Instant::now();
    let lock = sandbox.locks().await.force_release(KEY).await.unwrap().unwrap();
    let output = running.wait();
    assert!(taken.elapsed() < lock.remaining, "{:?} of {:?}", taken.elapsed(), lock.remaining);
    assert_code(&output, 76);
    assert!(message(&output).contains("the lock was lost"), "{}", message(&output));
    assert!(!is_alive(&command));
}

#[tokio::test]
async fn a_command_that_has_lost_its_lock_is_killed_even_if_no_one_reads_the_message() {
    let sandbox = Sandbox::new();
    let (mut reader, stderr) = full_pipe();
    let mut run = sandbox.run(&["--ttl", "3s"], IGNORES_TERM);
    let mut running = Running::start_with(&mut run, stderr);
    drop(run);
    let command = running.read_line();
    sandbox.locks().await.force_release(KEY).await.unwrap().unwrap();
    assert_code(&running.wait(), 76);
    assert!(!is_alive(&command));
    // There was no room in the pipe for the message.
    let mut stderr = String::new();
    reader.read_to_string(&mut stderr).unwrap();
    assert_eq!(stderr.trim_matches('.'), "");
}

#[test]
fn a_contended_lock_ends_the_program_even_if_no_one_reads_the_message() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&[]);
    let (_reader, stderr) = full_pipe();
    let refused = Running::start_with(&mut sandbox.run(&["--no-wait"], "true"), stderr);
    assert_code(&refused.wait(), 75);
    assert_code(&holder.finish(), 0);
}

#[tokio::test]
async fn the_descendants_of_the_command_are_killed_too() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("stubborn.sh"), IGNORES_TERM).unwrap();
    let script = "sh stubborn.sh & wait";
    let mut running = Running::start(&mut sandbox.run(&["--ttl", "3s"], script));
    let grandchild = running.read_line();
    sandbox.locks().await.force_release(KEY).await.unwrap().unwrap();
    assert_code(&running.wait(), 76);
    wait_until("the grandchild is dead", || !is_alive(&grandchild));
}

#[tokio::test]
async fn a_command_that_handles_term_can_clean_up() {
    let sandbox = Sandbox::new();
    let mut running = Running::start(&mut sandbox.run(&["--ttl", "30s"], CLEANS_UP_ON_TERM));
    assert_eq!(running.read_line(), "ready");
    sandbox.locks().await.force_release(KEY).await.unwrap().unwrap();
    assert_code(&running.wait(), 76);
    assert!(sandbox.path("tidied").exists());
}

#[test]
fn a_command_that_exceeds_max_hold_is_ended_and_the_lock_is_released() {
    let sandbox = Sandbox::new();
    let mut running = Running::start(&mut sandbox.run(&["--max-hold", "3s"], CLEANS_UP_ON_TERM));
    assert_eq!(running.read_line(), "ready");
    let output = running.wait();
    assert_code(&output, 76);
    assert!(message(&output).contains("held for as long"), "{}", message(&output));
    assert!(sandbox.path("tidied").exists());
    assert_code(&sandbox.run(&["--no-wait"], "true").output().unwrap(), 0);
}

#[test]
fn a_program_that_was_stopped_past_its_ttl_kills_the_command_as_soon_as_it_is_resumed() {
    let sandbox = Sandbox::new();
    let mut running = Running::start(&mut sandbox.run(&["--ttl", "3s"], CLEANS_UP_ON_TERM));
    assert_eq!(running.read_line(), "ready");
    running.signal(Signal::STOP);
    // Another holder proves that the lock was lost in the meantime.
    assert_code(&sandbox.run(&["--wait", "60s"], "true").output().unwrap(), 0);
    running.signal(Signal::CONT);
    let output = running.wait();
    assert_code(&output, 76);
    assert!(message(&output).contains("its deadline passed"), "{}", message(&output));
    assert!(!sandbox.path("tidied").exists(), "there was no time left to tidy up in");
}

#[tokio::test]
async fn an_undetected_forced_release_is_reported_when_the_command_exits() {
    let sandbox = Sandbox::new();
    // The first renewal is far in the future.
    let holder = sandbox.hold(&["--ttl", "10m"]);
    sandbox.locks().await.force_release(KEY).await.unwrap().unwrap();
    let output = holder.finish();
    assert_code(&output, 76);
    assert!(message(&output).contains("may have overlapped another"));
}

#[test]
fn a_failed_release_is_reported_and_does_not_change_the_exit_code() {
    let sandbox = Sandbox::new();
    let script = "rm locks.db*; echo no database > locks.db; echo spoilt; exit 5";
    let output = sandbox.run(&[], script).output().unwrap();
    assert_eq!(stdout(&output), "spoilt");
    assert_code(&output, 5);
    assert!(message(&output).contains("warning: the lock is left to its ttl"));
}

#[test]
fn a_holder_whose_log_is_deleted_is_ended_because_the_file_grants_its_lock_again() {
    let sandbox = Sandbox::new();
    let script = format!("echo $SYNCGUARD_FENCE; {IGNORES_TERM}");
    let mut running = Running::start(&mut sandbox.run(&["--ttl", "3s"], &script));
    let fence = running.read_line();
    for side in ["locks.db-wal", "locks.db-shm"] {
        fs::remove_file(sandbox.path(side)).unwrap();
    }
    let script = "echo $SYNCGUARD_FENCE; read line; exit 0";
    let mut next = Running::start(&mut sandbox.run(&["--no-wait"], script));
    assert_eq!(next.read_line(), fence, "the fault did not strike");
    let output = running.wait();
    assert_code(&output, 76);
    assert!(message(&output).contains("the lock was lost"), "{}", message(&output));
    assert_code(&next.finish(), 0);
}
