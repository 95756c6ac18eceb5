//! What remains when the program is killed.

use std::time::Duration;

use rustix::process::Signal;
use syncguard::backend::Capabilities;

use crate::sandbox::{KEY, Running, Sandbox, assert_code, is_alive, lookup, program, wait_until};

/// How many lookups may find the key free before the waiter must hold it, and the interval between
/// lookups. On a loaded machine both the waiter and the lookups take longer.
const MAX_FREE_LOOKUPS: usize = 20;
const LOOKUP_INTERVAL: Duration = Duration::from_millis(50);

#[tokio::test]
async fn after_a_kill_the_key_is_free_when_the_lease_and_its_grace_are_over() {
    let sandbox = Sandbox::new();
    let mut holder = Running::start(&mut sandbox.run(&["--ttl", "2s"], "echo $$; exec sleep 600"));
    let command = holder.read_line();
    let script = "echo $SYNCGUARD_FENCE; read line; exit 0";
    let mut waiter = Running::start(&mut sandbox.run(&["--wait", "60s"], script));
    waiter.wait_for_store(&sandbox.store());

    let locks = sandbox.locks().await;
    holder.signal(Signal::KILL);
    let mut free_lookups = 0;
    loop {
        match lookup(&locks).await.map(|record| record.fence.number()) {
            Some(2) => break,
            Some(_) => {}
            None => free_lookups += 1,
        }
        assert!(
            free_lookups < MAX_FREE_LOOKUPS,
            "the key is free, and the waiter does not have it"
        );
        tokio::time::sleep(LOOKUP_INTERVAL).await;
    }
    assert_eq!(waiter.read_line(), "000000000000002");
    assert!(!is_alive(&command));
    assert_code(&waiter.finish(), 0);
}

#[tokio::test]
async fn after_a_kill_no_one_holds_the_key_before_the_lease_and_its_grace_are_over() {
    let sandbox = Sandbox::new();
    let mut holder =
        Running::start(&mut sandbox.run(&["--ttl", "2s"], "echo held; exec sleep 600"));
    assert_eq!(holder.read_line(), "held");
    let mut waiter =
        Running::start(&mut sandbox.run(&["--wait", "60s"], "echo held; read line; exit 0"));
    waiter.wait_for_store(&sandbox.store());
    holder.signal(Signal::KILL);
    drop(holder);
    let locks = sandbox.locks().await;
    let dead = lookup(&locks).await.unwrap();
    assert_eq!(waiter.read_line(), "held");
    let next = lookup(&locks).await.unwrap();
    assert!(next.acquired_at.since(dead.expires_at) >= Capabilities::GRACE, "{next:?} {dead:?}");
    assert_code(&waiter.finish(), 0);
}

#[test]
fn the_command_is_killed_with_the_program() {
    let sandbox = Sandbox::new();
    let script = "trap '' HUP INT TERM; echo $$; while :; do sleep 0.05; done";
    let mut holder = Running::start(&mut sandbox.run(&[], script));
    let command = holder.read_line();
    assert!(is_alive(&command));
    holder.signal(Signal::KILL);
    wait_until("the command is dead", || !is_alive(&command));
}

#[test]
fn a_command_whose_program_died_before_it_started_does_not_start() {
    let sandbox = Sandbox::new();
    let ran = sandbox.path("ran");
    // The parent of the test's children is always the test.
    let output = program().args(["launch", "--parent", "1", "--", "touch"]).arg(&ran).output();
    assert_code(&output.unwrap(), 71);
    assert!(!ran.exists());
    let ours = std::process::id().to_string();
    let output = program().args(["launch", "--parent", &ours, "--", "echo", KEY]).output();
    assert_code(&output.unwrap(), 0);
}
