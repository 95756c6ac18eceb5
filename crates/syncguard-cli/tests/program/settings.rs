//! Warnings about settings of the store that break a guarantee.

use std::process::Command;

use syncguard_testkit::server::RedisServer;

use crate::sandbox::{KEY, Sandbox, assert_code, only_line, program, stdout};

const VERBS: [&[&str]; 3] =
    [&["run", "--key", KEY, "--no-wait", "-c", "true"], &["status", "--key", KEY], &["list"]];

fn on(url: &str, arguments: &[&str]) -> Command {
    let mut program = program();
    program.args(arguments).env("SYNCGUARD_STORE", url);
    program
}

#[tokio::test]
async fn a_setting_that_breaks_a_guarantee_is_a_warning() {
    let server = RedisServer::builder().setting("appendonly", "no").start().await.unwrap();
    for verb in VERBS {
        let output = on(&server.url(), verb).output().unwrap();
        assert_code(&output, 0);
        let line = only_line(&output);
        let expected = "syncguard: warning: appendonly no: a restart takes back grants";
        assert!(line.starts_with(expected), "{verb:?}: {line}");
    }
    let echo = ["run", "--key", KEY, "--", "echo", "done"];
    assert_eq!(stdout(&on(&server.url(), &echo).output().unwrap()), "done");
}

#[tokio::test]
async fn a_setting_that_weakens_a_guarantee_is_a_warning_too() {
    let server = RedisServer::builder().setting("appendonly", "yes").start().await.unwrap();
    let output = on(&server.url(), VERBS[0]).output().unwrap();
    assert_code(&output, 0);
    let line = only_line(&output);
    assert!(line.starts_with("syncguard: warning: appendfsync everysec: a crash of"), "{line}");
}

#[tokio::test]
async fn settings_that_cannot_be_read_are_named_in_one_line() {
    let server = RedisServer::builder();
    let server = server.setting("appendonly", "yes").setting("appendfsync", "always");
    let server = server.start().await.unwrap();
    let user = |name: &str, forbidden: &str| {
        let rule = ["ACL", "SETUSER", name, "on", ">p", "~*", "&*", "+@all", forbidden];
        rule.map(str::to_owned)
    };
    for (name, forbidden, expected) in [
        ("a", "-config", "warning: settings of the store that cannot be read: appendfsync"),
        ("b", "-info", "warning: the settings of the store are not known: "),
    ] {
        let rule = user(name, forbidden);
        server.command(&rule.each_ref().map(String::as_str)).await.unwrap();
        let url = server.url().replace("redis://", &format!("redis://{name}:p@"));
        for verb in VERBS {
            let output = on(&url, verb).output().unwrap();
            assert_code(&output, 0);
            let line = only_line(&output);
            assert!(line.contains(expected), "{verb:?}: {line}");
        }
    }
}

#[test]
fn a_file_that_others_may_read_is_a_warning() {
    use std::{fs, os::unix::fs::PermissionsExt};

    let sandbox = Sandbox::new();
    let output = sandbox.program("status").output().unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    fs::set_permissions(sandbox.store(), fs::Permissions::from_mode(0o644)).unwrap();
    let output = sandbox.program("status").output().unwrap();
    assert_code(&output, 0);
    assert!(only_line(&output).contains("warning: "), "{output:?}");
}
