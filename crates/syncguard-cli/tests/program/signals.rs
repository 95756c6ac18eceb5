//! Signals are passed to the command, and end a wait.

use std::{fs, process::Command, time::Duration};

use nix::sys::signal::{SigSet, Signal::SIGCHLD};
use rustix::process::{Pid, Signal, kill_process};
use syncguard_testkit::{operations::eventually, server::RedisServer};

use crate::sandbox::{
    KEY, Running, Sandbox, assert_code, assert_signal, is_alive, lookup, program, stdout,
    wait_past_expiry, wait_until,
};

const PASSED_ON: [Signal; 14] = [
    Signal::INT,
    Signal::TERM,
    Signal::HUP,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::VTALARM,
    Signal::PROF,
    Signal::IO,
    Signal::XCPU,
    Signal::POWER,
    Signal::WINCH,
    Signal::CONT,
];

#[test]
fn a_signal_reaches_the_command_and_its_descendants() {
    for signal in PASSED_ON {
        let (sandbox, name) = (Sandbox::new(), signal.as_raw());
        // Its run time is limited, because otherwise the exit of a program that failed is not
        // detected.
        let grandchild = format!(
            "trap 'touch grandchild; exit' {name}; echo ready; for i in $(seq 400); do sleep 0.05; done"
        );
        fs::write(sandbox.path("grandchild.sh"), grandchild).unwrap();
        let script = format!("trap 'touch child' {name}; sh grandchild.sh; exit 7");
        let mut running = Running::start(&mut sandbox.run(&[], &script));
        assert_eq!(running.read_line(), "ready");
        running.signal(signal);
        assert_code(&running.wait(), 7);
        assert!(sandbox.path("grandchild").exists() && sandbox.path("child").exists(), "{name}");
    }
}

#[test]
fn a_signal_that_ends_the_command_ends_the_program_too_and_releases_the_lock() {
    let sandbox = Sandbox::new();
    let mut running = Running::start(&mut sandbox.run(&[], "echo ready; exec sleep 600"));
    assert_eq!(running.read_line(), "ready");
    running.signal(Signal::TERM);
    assert_signal(&running.wait(), Signal::TERM);
    assert_code(&sandbox.run(&["--no-wait"], "true").output().unwrap(), 0);
}

#[tokio::test]
async fn a_signal_ends_the_wait_immediately_and_leaves_no_ghost() {
    let server = RedisServer::builder().setting("appendonly", "yes").start().await.unwrap();
    let run = |options: &[&str], script: &str| {
        let mut run = program();
        run.env("SYNCGUARD_STORE", server.url()).args(["run", "--key", KEY]).args(options);
        run.args(["--", "sh", "-c", script]);
        run
    };
    for (signal, next) in
        [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::ALARM]
            .into_iter()
            .zip((2..).step_by(2))
    {
        let mut holder = Running::start(&mut run(&[], "echo held; read line; exit 0"));
        assert_eq!(holder.read_line(), "held");
        let waiter = Running::start(&mut run(&["--wait", "60s"], "echo ran"));
        // It subscribes to the key after it was refused.
        eventually("the waiter subscribes", async || {
            !server.command(&["PUBSUB", "CHANNELS"]).await.unwrap().is_empty()
        })
        .await;
        // Ignored by default.
        waiter.signal(Signal::WINCH);
        waiter.signal(signal);
        let output = waiter.wait();
        assert_signal(&output, signal);
        assert_eq!(stdout(&output), "");
        // The holder still has the lock, so only the signal can have ended the wait.
        assert_code(&holder.finish(), 0);
        let output = run(&["--no-wait"], "echo $SYNCGUARD_FENCE").output().unwrap();
        assert_eq!(stdout(&output), format!("{next:015}"), "{signal:?}");
    }
}

#[tokio::test]
async fn a_signal_at_any_moment_leaves_no_ghost() {
    let sandbox = Sandbox::new();
    let locks = sandbox.locks().await;
    for round in 0..30 {
        let running = Running::start(&mut sandbox.run(&[], "exec sleep 600"));
        running.wait_for_store(&sandbox.store());
        // At some point between the opening of the store and the start of the command.
        tokio::time::sleep(Duration::from_micros(200 * round)).await;
        running.signal(Signal::TERM);
        assert_signal(&running.wait(), Signal::TERM);
        assert_eq!(lookup(&locks).await, None, "round {round}");
    }
}

#[test]
fn a_signal_that_was_ignored_when_the_program_started_stays_ignored() {
    let sandbox = Sandbox::new();
    let inner = sandbox.run(&[], "echo ready; read line; echo done");
    let mut outer = Command::new("sh");
    outer.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(inner.get_program());
    let mut running = Running::start(outer.args(inner.get_args()).current_dir(sandbox.path("")));
    assert_eq!(running.read_line(), "ready");
    running.signal(Signal::HUP);
    running.signal(Signal::HUP);
    let output = running.finish();
    assert_code(&output, 0);
    assert_eq!(stdout(&output), "done");
}

#[test]
fn a_parent_that_blocks_sigchld_does_not_block_it_for_the_program() {
    let sandbox = Sandbox::new();
    // Programs that this thread starts inherit the signal mask.
    SigSet::from(SIGCHLD).thread_block().unwrap();
    let running = Running::start(&mut sandbox.run(&[], "read line; exit 7"));
    SigSet::from(SIGCHLD).thread_unblock().unwrap();
    running.wait_for_store(&sandbox.store());
    assert_code(&running.finish(), 7);
}

#[tokio::test]
async fn a_stopped_command_keeps_its_lock_and_runs_again_when_continued() {
    let sandbox = Sandbox::new();
    let script = "echo $$; read line; exit 7";
    let mut running = Running::start(&mut sandbox.run(&["--ttl", "3s"], script));
    let command = running.read_line();
    let pid = Pid::from_raw(command.parse().unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    wait_past_expiry(&sandbox.locks().await, Duration::from_secs(3)).await;
    assert!(is_alive(&command));
    kill_process(pid, Signal::CONT).unwrap();
    assert_code(&running.finish(), 7);
    wait_until("the command is gone", || !is_alive(&command));
}
