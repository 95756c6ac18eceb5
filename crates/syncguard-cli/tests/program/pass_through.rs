//! The input, the output, the arguments and the exit code of the command are passed through
//! unchanged.

use std::{ffi::OsStr, fs, io::Write, os::unix::ffi::OsStrExt, process::Stdio};

use rustix::process::Signal;

use crate::sandbox::{Sandbox, assert_code, assert_signal, only_line, stdout};

#[test]
fn the_output_of_the_command_is_passed_through_and_nothing_is_added() {
    let output = Sandbox::new().run(&[], "echo out; echo err >&2").output().unwrap();
    assert_code(&output, 0);
    assert_eq!((stdout(&output), only_line(&output)), ("out", "err"));
}

#[test]
fn the_command_reads_the_standard_input() {
    let sandbox = Sandbox::new();
    let mut program = sandbox.run(&[], "cat");
    let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"over here").unwrap();
    assert_eq!(stdout(&child.wait_with_output().unwrap()), "over here");
}

#[test]
fn arguments_reach_the_command_byte_for_byte() {
    let sandbox = Sandbox::new();
    let odd = OsStr::from_bytes(b"\xff\n");
    let script = "printf '[%s]' \"$@\"";
    let mut program = sandbox.run(&[], script);
    let output = program.args(["name", "", "--key", "--", "a b"]).arg(odd).output().unwrap();
    assert_eq!(output.stdout, b"[][--key][--][a b][\xff\n]");
}

#[test]
fn the_exit_code_is_that_of_the_command() {
    for code in [0, 1, 3, 75, 255] {
        let output = Sandbox::new().run(&[], &format!("exit {code}")).output().unwrap();
        assert_code(&output, code);
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn a_signal_that_ended_the_command_ends_the_program() {
    for signal in [Signal::TERM, Signal::KILL, Signal::PIPE, Signal::SEGV, Signal::USR1] {
        let script = format!("kill -{} $$", signal.as_raw());
        let output = Sandbox::new().run(&[], &script).output().unwrap();
        assert_signal(&output, signal);
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn a_missing_command_exits_with_127_and_one_that_cannot_be_executed_with_126() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("plain"), "#!/bin/sh\n").unwrap();
    for (command, code) in
        [("no-such-command", 127), ("./missing", 127), ("./plain", 126), ("/", 126)]
    {
        let output = sandbox.program("run").args(["--", command]).output().unwrap();
        assert_code(&output, code);
        assert!(only_line(&output).starts_with(&format!("syncguard: {command}: ")));
    }
    // The lock was released each time.
    assert_code(&sandbox.run(&["--no-wait"], "").output().unwrap(), 0);
}
