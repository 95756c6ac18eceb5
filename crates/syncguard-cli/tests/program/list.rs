//! The `list` subcommand.

use serde_json::Value;
use syncguard_testkit::server::RedisServer;

use crate::sandbox::{Running, Sandbox, assert_code, only_line, program, stdout};

const HOLD: [&str; 4] = ["--", "sh", "-c", "echo held; read line; exit 0"];

fn hold(sandbox: &Sandbox, arguments: &[&str]) -> Running {
    let mut program = sandbox.command(&[&["run"], arguments].concat());
    let mut holder = Running::start(program.args(HOLD));
    assert_eq!(holder.read_line(), "held");
    holder
}

fn cells(line: &str) -> Vec<&str> {
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

#[test]
fn the_locks_are_listed_in_the_order_of_their_keys() {
    let sandbox = Sandbox::new();
    let output = sandbox.command(&["list"]).output().unwrap();
    assert_code(&output, 0);
    assert_eq!(stdout(&output).lines().count(), 1, "only the names of the columns");

    let _holders = [
        hold(&sandbox, &["--key", "job:b", "--owner", "ci-7 \u{202e}", "--ttl", "1h"]),
        hold(&sandbox, &["--key", "job:a", "--owner", "ci-8", "--permits", "3"]),
        hold(&sandbox, &["--key", "job:a", "--owner", "ci-9", "--permits", "3"]),
        hold(&sandbox, &["--key", "other", "--owner", "ci-9"]),
    ];
    let output = sandbox.command(&["list", "job:"]).output().unwrap();
    assert_code(&output, 0);
    let lines: Vec<_> = stdout(&output).lines().map(cells).collect();
    assert_eq!(lines[0], ["KEY", "HOLDER", "MODE", "FENCE", "LEFT", "AGE"]);
    assert_eq!(lines[1][..4], ["\"job:a\"", "2 holders", "shared of 3", "000000000000002"]);
    let expected = ["\"job:b\"", r#""ci-7 \u{202e}""#, "exclusive", "000000000000001"];
    assert_eq!(lines[2][..4], expected);
    assert!(lines[2][4].starts_with("59m"), "{:?}", lines[2]);
    assert_eq!(lines.len(), 3);
    // The columns are aligned.
    let starts = |line: &str, cell: &str| line.find(cell).unwrap();
    let text: Vec<_> = stdout(&output).lines().collect();
    assert_eq!(starts(text[0], "MODE"), starts(text[1], "shared"));
    assert_eq!(starts(text[0], "MODE"), starts(text[2], "exclusive"));

    let output = sandbox.command(&["list", "--json"]).output().unwrap();
    assert_code(&output, 0);
    let objects: Vec<Value> =
        stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let keys: Vec<_> = objects.iter().map(|lock| lock["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["job:a", "job:b", "other"]);
    assert_eq!(objects[0]["holders"][1]["owner"], "ci-9");
    assert_eq!(objects[1]["locked"], true);
}

#[tokio::test]
async fn all_pages_of_a_listing_are_shown() {
    let server = RedisServer::builder().setting("appendonly", "yes").start().await.unwrap();
    let keys: Vec<_> =
        (0..120).flat_map(|key| ["--key".to_owned(), format!("k{key:03}")]).collect();
    let store = ["--store".to_owned(), server.url()];
    let mut run = program();
    let mut holder = Running::start(run.arg("run").args(&store).args(&keys).args(HOLD));
    assert_eq!(holder.read_line(), "held");
    let output = program().args(["list", "k", "--json"]).args(&store).output().unwrap();
    assert_code(&output, 0);
    assert_eq!(stdout(&output).lines().count(), 120);
    assert_code(&holder.finish(), 0);
}

#[test]
fn a_listing_is_redrawn_until_it_is_interrupted() {
    let sandbox = Sandbox::new();
    let mut watch = Running::start(&mut sandbox.command(&["list", "--watch=10ms"]));
    let mut read = |start: &str| while !watch.read_line().starts_with(start) {};
    read("KEY");
    let holder = hold(&sandbox, &["--key", "a"]);
    read("\"a\"");
    assert_code(&holder.finish(), 0);
    // Two tables, of which the second has only its head.
    read("KEY");
    read("KEY");
    watch.signal(rustix::process::Signal::INT);
    drop(watch);
    let output = sandbox.command(&["list", "--watch", "--json"]).output().unwrap();
    assert_code(&output, 64);
    assert!(only_line(&output).contains("cannot be used with"));
}
