//! What is left when the program dies without a word.

use std::time::Duration;

use rustix::process::Signal;
use syncguard::Capabilities;

use crate::sandbox::{KEY, Running, Sandbox, assert_code, is_alive, lookup, program, wait_until};

/// How often to look for a waiter that may have the key, and the pause after each look. On a loaded machine
/// both the waiter and the looks take longer.
const LOOKS: usize = 20;
const PAUSE: Duration = Duration::from_millis(50);

#[tokio::test]
async fn after_a_kill_the_key_is_free_when_the_lease_and_its_grace_are_over() {
    let sandbox = Sandbox::new();
    let mut holder = Running::start(&mut sandbox.run(&["--ttl", "2s"], "echo $$; exec sleep 600"));
    let command = holder.line();
    let script = "echo $SYNCGUARD_FENCE; read line; exit 0";
    let mut waiter = Running::start(&mut sandbox.run(&["--wait", "60s"], script));
    waiter.opened(&sandbox.store());

    let locks = sandbox.locks().await;
    holder.signal(Signal::KILL);
    let mut looks = 0;
    loop {
        match lookup(&locks).await.map(|record| record.fence.number()) {
            Some(2) => break,
            Some(_) => {}
            None => looks += 1,
        }
        assert!(looks < LOOKS, "the key is free, and the waiter does not have it");
        tokio::time::sleep(PAUSE).await;
    }
    assert_eq!(waiter.line(), "000000000000002");
    assert!(!is_alive(&command));
    assert_code(&waiter.finish(), 0);
}

#[tokio::test]
async fn after_a_kill_nobody_has_the_key_before_the_lease_and_its_grace_are_over() {
    let sandbox = Sandbox::new();
    let mut holder =
        Running::start(&mut sandbox.run(&["--ttl", "2s"], "echo held; exec sleep 600"));
    assert_eq!(holder.line(), "held");
    let mut waiter =
        Running::start(&mut sandbox.run(&["--wait", "60s"], "echo held; read line; exit 0"));
    waiter.opened(&sandbox.store());
    holder.signal(Signal::KILL);
    drop(holder);
    let locks = sandbox.locks().await;
    let dead = lookup(&locks).await.unwrap();
    assert_eq!(waiter.line(), "held");
    let next = lookup(&locks).await.unwrap();
    assert!(next.acquired_at.since(dead.expires_at) >= Capabilities::GRACE, "{next:?} {dead:?}");
    assert_code(&waiter.finish(), 0);
}

#[test]
fn the_command_dies_with_the_program() {
    let sandbox = Sandbox::new();
    let script = "trap '' HUP INT TERM; echo $$; while :; do sleep 0.05; done";
    let mut holder = Running::start(&mut sandbox.run(&[], script));
    let command = holder.line();
    assert!(is_alive(&command));
    holder.signal(Signal::KILL);
    wait_until("the command is dead", || !is_alive(&command));
}

#[test]
fn a_command_whose_program_died_before_it_started_does_not_start() {
    let sandbox = Sandbox::new();
    let ran = sandbox.path("ran");
    // Nothing is the parent of the test's children but the test itself.
    let output = program().args(["launch", "--parent", "1", "--", "touch"]).arg(&ran).output();
    assert_code(&output.unwrap(), 71);
    assert!(!ran.exists());
    let ours = std::process::id().to_string();
    let output = program().args(["launch", "--parent", &ours, "--", "echo", KEY]).output();
    assert_code(&output.unwrap(), 0);
}
