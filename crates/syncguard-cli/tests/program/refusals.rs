//! Invalid requests are refused in one line, and nothing is partially written.

use std::{
    fs,
    process::{Command, Output},
};

use crate::sandbox::{KEY, Sandbox, assert_code, only_line, program};

/// Asserts that `arguments` are refused with `code`, that the message contains `reason`, and that
/// the state directory stays empty.
#[track_caller]
fn assert_arguments_refused(arguments: &[&str], code: i32, reason: &str) {
    let sandbox = Sandbox::new();
    let state = sandbox.path("state");
    fs::create_dir(&state).unwrap();
    let output = program().env("XDG_STATE_HOME", &state).args(arguments).output().unwrap();
    assert_refused(&output, code, reason);
    assert_eq!(fs::read_dir(&state).unwrap().count(), 0, "{arguments:?}");
}

#[track_caller]
fn assert_refused(output: &Output, code: i32, reason: &str) {
    assert_code(output, code);
    let line = only_line(output);
    assert!(line.starts_with("syncguard: ") && line.contains(reason), "{line}");
    assert!(!line.contains("panic"), "{line}");
    assert!(output.stdout.is_empty());
}

#[test]
fn an_invalid_key_is_refused() {
    assert_arguments_refused(&["run", "--key", "", "--", "true"], 64, "lock key is empty");
    assert_arguments_refused(
        &["run", "--key", &"k".repeat(513), "--", "true"],
        64,
        "the limit is 512",
    );
    assert_arguments_refused(&["status", "--key", ""], 64, "lock key is empty");
    assert_arguments_refused(&["run", "--", "true"], 64, "--key");
}

#[test]
fn an_invalid_duration_is_refused() {
    for (option, text) in
        [("--ttl", "0s"), ("--ttl", "soon"), ("--wait", "-1s"), ("--max-hold", "0s")]
    {
        let option = format!("{option}={text}");
        assert_arguments_refused(&["run", "--key", KEY, &option, "--", "true"], 64, text);
    }
}

#[test]
fn counters_that_are_used_now_and_then_are_not_pruned() {
    for text in ["23h", "soon", "0s"] {
        let arguments = ["prune", "--counters-unused-for", text];
        assert_arguments_refused(&arguments, 64, "--counters-unused-for");
    }
    assert_arguments_refused(&["prune"], 64, "--counters-unused-for");
}

#[test]
fn a_huge_or_hostile_argument_is_shortened_and_escaped_in_the_message() {
    for value in ["x".repeat(100_000), "\u{202e}\u{200b}s03".to_owned()] {
        let output = program().args(["run", "--key", KEY, "--ttl", &value, "--", "true"]).output();
        let output = output.unwrap();
        assert_refused(&output, 64, "--ttl");
        let line = only_line(&output);
        assert!(line.chars().count() < 1_100 && line.contains("see --help"), "{line}");
        assert!(!line.contains(['\u{202e}', '\u{200b}']), "{line}");
    }
}

#[test]
fn an_owner_that_cannot_be_displayed_is_refused() {
    assert_arguments_refused(
        &["run", "--key", KEY, "--owner", "a\nb", "--", "true"],
        64,
        "control character",
    );
}

#[test]
fn wait_together_with_no_wait_is_refused() {
    let arguments = ["run", "--key", KEY, "--wait", "1s", "--no-wait", "--", "true"];
    assert_arguments_refused(&arguments, 64, "cannot be used with");
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    for options in [
        &["--quiet", "--verbose"][..],
        &["--keep", "--min-hold", "1s"],
        &["--wait", "forever", "--no-wait"],
        &["-c", "true"],
    ] {
        let arguments = [&["run", "--key", KEY][..], options, &["--", "true"]].concat();
        assert_arguments_refused(&arguments, 64, "cannot be used with");
    }
    let arguments = ["run", "--key", KEY, "--min-hold", "0s", "--", "true"];
    assert_arguments_refused(&arguments, 64, "greater than zero");
}

#[test]
fn a_missing_command_is_refused() {
    assert_arguments_refused(&["run", "--key", KEY], 64, "COMMAND");
    assert_arguments_refused(&["run", "--key", KEY, "--"], 64, "COMMAND");
    let tip = "'true' found; the command follows a --, as in: -- COMMAND; see --help";
    assert_arguments_refused(&["run", "--key", KEY, "true"], 64, tip);
    assert_arguments_refused(&["lock", "--key", KEY], 64, "lock");
}

#[test]
fn an_invalid_store_is_refused() {
    let store = |url| ["run", "--key", KEY, "--store", url, "--", "true"];
    assert_arguments_refused(&store("carrier-pigeon://coop"), 64, "carrier-pigeon");
    for path in ["locks.db", "./locks.db", "/tmp/locks"] {
        let reason = format!("{path} is not the URL of a store; did you mean sqlite:{path}?");
        assert_arguments_refused(&store(path), 64, &reason);
    }
    assert_arguments_refused(&store(""), 64, "no scheme");
    assert_arguments_refused(&store("sqlite:"), 64, "is not a file");
    assert_arguments_refused(&store("memory:x"), 64, "takes no name");
}

#[test]
fn a_missing_home_for_the_default_store_is_refused() {
    let output = program().args(["run", "--key", KEY, "--", "true"]).output().unwrap();
    assert_refused(&output, 64, "--store");
}

#[test]
fn a_directory_that_cannot_be_created_is_reported() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("file"), "").unwrap();
    for state in [sandbox.path("file/below"), "/proc/no-such-directory".into()] {
        let mut program = program();
        program.env("XDG_STATE_HOME", &state).args(["run", "--key", KEY, "--", "true"]);
        assert_refused(&program.output().unwrap(), 69, "cannot be made");
    }
    let url = format!("sqlite:{}", sandbox.path("missing/locks.db").display());
    let run = ["run", "--key", KEY, "--store", &url, "--", "true"];
    assert_refused(&program().args(run).output().unwrap(), 69, "cannot be opened");
    assert!(!sandbox.path("missing").exists());
}

#[test]
fn a_file_that_is_not_a_database_is_refused_and_not_changed() {
    let sandbox = Sandbox::new();
    let text = "these are not the locks you are looking for\n".repeat(100);
    fs::write(sandbox.store(), &text).unwrap();
    for output in [sandbox.run(&[], "true").output(), sandbox.program("status").output()] {
        assert_refused(&output.unwrap(), 69, "not a SQLite database");
    }
    assert_eq!(fs::read_to_string(sandbox.store()).unwrap(), text);
}

#[test]
fn help_and_version_succeed() {
    for arguments in [&["--help"][..], &["--version"], &["run", "--help"], &["status", "-h"]] {
        let output = program().args(arguments).output().unwrap();
        assert_code(&output, 0);
        assert!(!output.stdout.is_empty() && output.stderr.is_empty());
    }
}

#[test]
fn a_file_that_is_mounted_without_its_directory_is_refused() {
    let sandbox = Sandbox::new();
    assert_code(&sandbox.run(&[], "true").output().unwrap(), 0);
    fs::create_dir(sandbox.path("container")).unwrap();
    fs::write(sandbox.path("container/locks.db"), "").unwrap();
    // In a separate mount namespace, as in a container.
    let script = "mount --bind locks.db container/locks.db && cd container && \
                  exec \"$0\" run --key k --store sqlite:locks.db -- true";
    let mut container = Command::new("unshare");
    container.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
    container.arg(program().get_program()).current_dir(sandbox.path(""));
    assert_refused(&container.output().unwrap(), 69, "mounted by itself");
}
