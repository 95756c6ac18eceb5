//! The `release` subcommand.

use crate::sandbox::{KEY, Running, Sandbox, assert_code, lookup, only_line, stdout};

fn release(sandbox: &Sandbox) -> std::process::Output {
    sandbox.command(&["release", KEY, "--force", "--yes"]).output().unwrap()
}

#[tokio::test]
async fn a_forced_release_prints_what_it_ended() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&["--owner", "ci-7", "--ttl", "1h"]);
    let output = release(&sandbox);
    assert_code(&output, 0);
    let expected = "ended: held by \"ci-7\" under fence 000000000000001 for another 59m";
    assert!(stdout(&output).starts_with(expected), "{output:?}");
    assert!(lookup(&sandbox.locks().await).await.is_none());
    // The holder finds out when it releases.
    assert_code(&holder.finish(), 76);
    let output = release(&sandbox);
    assert_code(&output, 0);
    assert_eq!(stdout(&output), "free");
}

#[test]
fn a_forced_release_ends_all_shared_holders() {
    let sandbox = Sandbox::new();
    let holders = [sandbox.hold(&["--shared"]), sandbox.hold(&["--shared"])];
    let output = release(&sandbox);
    assert!(
        stdout(&output).starts_with("ended: held by 2 in shared mode under fence"),
        "{output:?}"
    );
    for holder in holders {
        assert_code(&holder.finish(), 76);
    }
}

#[tokio::test]
async fn a_lock_is_not_ended_without_force_or_consent() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&[]);
    for (arguments, reason) in
        [(&["release", KEY, "--yes"][..], "--force"), (&["release", KEY, "--force"], "--yes")]
    {
        let output = sandbox.command(arguments).output().unwrap();
        assert_code(&output, 64);
        assert!(only_line(&output).contains(reason), "{output:?}");
    }
    assert!(lookup(&sandbox.locks().await).await.is_some());
    assert_code(&holder.finish(), 0);
}

/// Runs the program on a terminal, answers its question, and returns what is on the terminal.
fn asked(sandbox: &Sandbox, reply: &str) -> String {
    let release = sandbox.command(&["release", KEY, "--force"]);
    let words = [release.get_program()].into_iter().chain(release.get_args());
    let words: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
    let mut terminal = std::process::Command::new("script");
    let command = format!("{}; echo code $?", words.join(" "));
    terminal.args(["--quiet", "--return", "--command", &command, "/dev/null"]);
    let mut running = Running::start(&mut terminal);
    let mut text = running.read_until(b']');
    running.write_stdin(reply);
    text.push_str(stdout(&running.wait()));
    text
}

#[tokio::test]
async fn a_person_is_asked_on_a_terminal() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&["--owner", "ci-7"]);
    let text = asked(&sandbox, "\n");
    let shown = "\"nightly-report\" is held by \"ci-7\" under fence 000000000000001 for another";
    assert!(text.starts_with(shown) && text.contains("end this lock? [y/N]"), "{text}");
    assert!(text.contains("not ended") && text.contains("code 1"), "{text}");
    assert!(lookup(&sandbox.locks().await).await.is_some());
    let text = asked(&sandbox, "y\n");
    assert!(text.contains("ended: held by \"ci-7\"") && text.contains("code 0"), "{text}");
    assert!(lookup(&sandbox.locks().await).await.is_none());
    assert_code(&holder.finish(), 76);
}
