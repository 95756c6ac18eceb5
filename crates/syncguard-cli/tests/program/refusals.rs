//! What cannot be done is refused in one line, and nothing is half-written.

use std::{
    fs,
    process::{Command, Output},
};

use crate::sandbox::{KEY, Sandbox, assert_code, only_line, program};

/// Refuses `arguments` with `code`, naming `reason`, and leaves the directory of the state empty.
#[track_caller]
fn refuses(arguments: &[&str], code: i32, reason: &str) {
    let sandbox = Sandbox::new();
    let state = sandbox.path("state");
    fs::create_dir(&state).unwrap();
    let output = program().env("XDG_STATE_HOME", &state).args(arguments).output().unwrap();
    refused(&output, code, reason);
    assert_eq!(fs::read_dir(&state).unwrap().count(), 0, "{arguments:?}");
}

#[track_caller]
fn refused(output: &Output, code: i32, reason: &str) {
    assert_code(output, code);
    let line = only_line(output);
    assert!(line.starts_with("syncguard: ") && line.contains(reason), "{line}");
    assert!(!line.contains("panic"), "{line}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_key_that_breaks_its_rule() {
    refuses(&["run", "--key", "", "--", "true"], 64, "lock key is empty");
    refuses(&["run", "--key", &"k".repeat(513), "--", "true"], 64, "the limit is 512");
    refuses(&["status", "--key", ""], 64, "lock key is empty");
    refuses(&["run", "--", "true"], 64, "--key");
}

#[test]
fn a_duration_that_makes_no_sense() {
    for (option, text) in
        [("--ttl", "0s"), ("--ttl", "soon"), ("--wait", "-1s"), ("--max-hold", "0s")]
    {
        let option = format!("{option}={text}");
        refuses(&["run", "--key", KEY, &option, "--", "true"], 64, text);
    }
}

#[test]
fn an_argument_that_is_huge_or_hostile_is_shown_short_and_harmless() {
    for value in ["x".repeat(100_000), "\u{202e}\u{200b}s03".to_owned()] {
        let output = program().args(["run", "--key", KEY, "--ttl", &value, "--", "true"]).output();
        let output = output.unwrap();
        refused(&output, 64, "--ttl");
        let line = only_line(&output);
        assert!(line.chars().count() < 1_100 && line.contains("see --help"), "{line}");
        assert!(!line.contains(['\u{202e}', '\u{200b}']), "{line}");
    }
}

#[test]
fn an_owner_that_could_not_be_shown() {
    refuses(&["run", "--key", KEY, "--owner", "a\nb", "--", "true"], 64, "control character");
}

#[test]
fn to_wait_and_not_to_wait() {
    let arguments = ["run", "--key", KEY, "--wait", "1s", "--no-wait", "--", "true"];
    refuses(&arguments, 64, "cannot be used with");
}

#[test]
fn a_missing_command() {
    refuses(&["run", "--key", KEY], 64, "COMMAND");
    refuses(&["run", "--key", KEY, "--"], 64, "COMMAND");
    refuses(&["run", "--key", KEY, "true"], 64, "true");
    refuses(&["lock", "--key", KEY], 64, "lock");
}

#[test]
fn a_store_that_is_none() {
    let store = |url| ["run", "--key", KEY, "--store", url, "--", "true"];
    refuses(&store("carrier-pigeon://coop"), 64, "carrier-pigeon");
    refuses(&store("locks.db"), 64, "no scheme");
    refuses(&store(""), 64, "no scheme");
    refuses(&store("sqlite:"), 64, "names no file");
    refuses(&store("memory:x"), 64, "takes no name");
}

#[test]
fn no_home_to_keep_the_store_in() {
    let output = program().args(["run", "--key", KEY, "--", "true"]).output().unwrap();
    refused(&output, 64, "--store");
}

#[test]
fn a_directory_that_cannot_be_made() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("file"), "").unwrap();
    for state in [sandbox.path("file/below"), "/proc/no-such-directory".into()] {
        let mut program = program();
        program.env("XDG_STATE_HOME", &state).args(["run", "--key", KEY, "--", "true"]);
        refused(&program.output().unwrap(), 69, "cannot be made");
    }
    let url = format!("sqlite:{}", sandbox.path("missing/locks.db").display());
    let run = ["run", "--key", KEY, "--store", &url, "--", "true"];
    refused(&program().args(run).output().unwrap(), 69, "cannot be opened");
    assert!(!sandbox.path("missing").exists());
}

#[test]
fn a_file_that_is_no_database() {
    let sandbox = Sandbox::new();
    let text = "these are not the locks you are looking for\n".repeat(100);
    fs::write(sandbox.store(), &text).unwrap();
    for output in [sandbox.run(&[], "true").output(), sandbox.program("status").output()] {
        refused(&output.unwrap(), 69, "no SQLite database");
    }
    assert_eq!(fs::read_to_string(sandbox.store()).unwrap(), text);
}

#[test]
fn help_and_version_are_no_refusals() {
    for arguments in [&["--help"][..], &["--version"], &["run", "--help"], &["status", "-h"]] {
        let output = program().args(arguments).output().unwrap();
        assert_code(&output, 0);
        assert!(!output.stdout.is_empty() && output.stderr.is_empty());
    }
}

#[test]
fn a_file_that_is_mounted_without_its_directory() {
    let sandbox = Sandbox::new();
    assert_code(&sandbox.run(&[], "true").output().unwrap(), 0);
    fs::create_dir(sandbox.path("container")).unwrap();
    fs::write(sandbox.path("container/locks.db"), "").unwrap();
    // In a mount namespace of its own, as a container would have it.
    let script = "mount --bind locks.db container/locks.db && cd container && \
                  exec \"$0\" run --key k --store sqlite:locks.db -- true";
    let mut container = Command::new("unshare");
    container.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
    container.arg(program().get_program()).current_dir(sandbox.path(""));
    refused(&container.output().unwrap(), 69, "mounted by itself");
}
