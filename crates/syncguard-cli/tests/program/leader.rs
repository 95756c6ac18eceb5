//! The `leader` subcommand.

use std::process::Stdio;

use rustix::process::Signal;

use crate::sandbox::{KEY, Running, Sandbox, assert_code, assert_signal};

const SCRIPT: &str = "echo $SYNCGUARD_FENCE_NUMBER; read line; exit 3";

fn lead(sandbox: &Sandbox) -> Running {
    let mut program = sandbox.program("leader");
    Running::start_with(program.args(["--", "sh", "-c", SCRIPT]), Stdio::piped())
}

fn end_the_term(sandbox: &Sandbox) {
    let output = sandbox.command(&["release", KEY, "--force", "--yes"]).output().unwrap();
    assert_code(&output, 0);
}

#[test]
fn a_leader_that_lost_a_term_leads_another_and_ends_with_its_command() {
    let sandbox = Sandbox::new();
    let mut leader = Running::start(
        sandbox.program("leader").args(["--ttl", "500ms", "--", "sh", "-c", SCRIPT]),
    );
    assert_eq!(leader.read_line(), "1");
    end_the_term(&sandbox);
    assert_eq!(leader.read_line(), "2");
    let follower = lead(&sandbox);
    assert_code(&leader.finish(), 3);
    let mut follower = follower;
    assert_eq!(follower.read_line(), "3");
    assert_code(&follower.finish(), 3);
}

#[test]
fn a_command_that_exits_with_the_code_of_a_loss_has_ended() {
    let sandbox = Sandbox::new();
    let mut program = sandbox.program("leader");
    let output = program.args(["-c", "echo $SYNCGUARD_FENCE; exit 76"]).output().unwrap();
    assert_code(&output, 76);
    assert_eq!(output.stdout, b"000000000000001\n");
}

#[test]
fn a_signal_between_two_terms_ends_the_leader() {
    let sandbox = Sandbox::new();
    let mut program = sandbox.program("leader");
    program.args(["--ttl", "500ms", "--verbose", "--", "sh", "-c", SCRIPT]);
    let mut leader = Running::start_with(&mut program, Stdio::piped());
    assert_eq!(leader.read_line(), "1");
    end_the_term(&sandbox);
    while !leader.read_error_line().contains("the term is over") {}
    leader.signal(Signal::TERM);
    assert_signal(&leader.wait(), Signal::TERM);
}
