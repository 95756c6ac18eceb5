//! The `status` subcommand.

use std::{fs::File, process::Stdio};

use serde_json::{Value, json};

use crate::sandbox::{KEY, Sandbox, assert_code, lookup, only_line, stdout};

fn text(sandbox: &Sandbox) -> String {
    let output = sandbox.program("status").output().unwrap();
    assert_code(&output, 0);
    stdout(&output).to_owned()
}

fn object(sandbox: &Sandbox) -> Value {
    let output = sandbox.program("status").arg("--json").output().unwrap();
    assert_code(&output, 0);
    assert_eq!(stdout(&output).lines().count(), 1);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_free_lock_is_shown_as_free() {
    let sandbox = Sandbox::new();
    assert_eq!(text(&sandbox), "free");
    assert_eq!(object(&sandbox), json!({ "locked": false, "key": KEY }));
}

#[tokio::test]
async fn a_held_lock_is_shown_with_its_holder() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold(&["--owner", "ci-7", "--ttl", "1h"]);
    let text = text(&sandbox);
    assert!(
        text.starts_with("held by \"ci-7\" under fence 000000000000001 for another 59m"),
        "{text}"
    );

    let record = lookup(&sandbox.locks().await).await.unwrap();
    let mut object = object(&sandbox);
    let remaining = object["remaining_ms"].take().as_u64().unwrap();
    assert!((3_500_000..=3_600_000).contains(&remaining), "{remaining}");
    let expected = json!({
        "locked": true,
        "key": KEY,
        "mode": "exclusive",
        "owner": "ci-7",
        "fence": "000000000000001",
        "remaining_ms": null,
        "acquired_at_ms": record.acquired_at,
        "expires_at_ms": record.expires_at,
    });
    assert_eq!(object, expected);
    assert_code(&holder.finish(), 0);
}

#[test]
fn a_shared_lock_is_shown_with_all_its_holders() {
    let sandbox = Sandbox::new();
    let holders = ["ci-7", "ci-8"].map(|owner| sandbox.hold(&["--permits", "3", "--owner", owner]));
    let text = text(&sandbox);
    let lines: Vec<_> = text.lines().collect();
    let head = "held by 2 in shared mode with 3 permits under fence 000000000000002 for another 2";
    assert!(lines[0].starts_with(head), "{text}");
    assert!(lines[1].starts_with("  held by \"ci-7\" under fence 000000000000001 for"), "{text}");
    assert!(lines[2].starts_with("  held by \"ci-8\" under fence 000000000000002 for"), "{text}");

    let object = object(&sandbox);
    assert_eq!((&object["mode"], &object["permits"]), (&json!("shared"), &json!(3)));
    assert_eq!((&object["owner"], &object["fence"]), (&Value::Null, &json!("000000000000002")));
    let listed: Vec<_> = object["holders"].as_array().unwrap().iter().collect();
    let owners: Vec<_> = listed.iter().map(|holder| holder["owner"].as_str().unwrap()).collect();
    assert_eq!(owners, ["ci-7", "ci-8"]);
    for holder in holders {
        assert_code(&holder.finish(), 0);
    }
}

#[test]
fn a_label_can_neither_imitate_the_rest_of_the_line_nor_control_the_terminal() {
    let sandbox = Sandbox::new();
    let label = "ci\" under fence 000000000000009, \u{202e}\u{200b}x";
    let holder = sandbox.hold(&["--owner", label]);
    let shown = r#"held by "ci\" under fence 000000000000009, \u{202e}\u{200b}x" under fence 0000"#;
    assert!(text(&sandbox).starts_with(shown), "{}", text(&sandbox));
    let refused = sandbox.run(&["--no-wait"], "true").output().unwrap();
    assert_code(&refused, 75);
    assert!(only_line(&refused).contains(shown), "{}", only_line(&refused));
    let json = sandbox.program("status").arg("--json").output().unwrap();
    assert!(!stdout(&json).contains(['\u{202e}', '\u{200b}']), "{json:?}");
    assert_eq!(object(&sandbox)["owner"], label);
    assert_code(&holder.finish(), 0);
}

#[test]
fn an_answer_that_cannot_be_written_is_an_error_but_a_closed_pipe_is_not() {
    let sandbox = Sandbox::new();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = sandbox.program("status").stdout(full).output().unwrap();
    assert_code(&output, 74);
    only_line(&output);

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = sandbox.program("status").stdout(Stdio::from(writer)).output().unwrap();
    assert_code(&output, 0);
    assert!(output.stderr.is_empty());
}
