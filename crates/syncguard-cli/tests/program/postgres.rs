//! Locks in a PostgreSQL database.

use std::process::Command;

use syncguard_testkit::server::PostgresServer;

use crate::sandbox::{KEY, Running, assert_code, only_line, program, stdout, wait_until};

fn on(url: &str, verb: &str, rest: &[&str]) -> Command {
    let mut program = program();
    program.arg(verb).args(rest).env("SYNCGUARD_STORE", url);
    program
}

#[tokio::test]
async fn two_programs_exclude_each_other_in_a_database() {
    let server = PostgresServer::start().await.unwrap();
    let url = server.url();
    let held = ["--key", KEY, "--owner", "first", "--", "sh", "-c", "echo held; read line; exit 0"];
    let mut holder = Running::start(&mut on(&url, "run", &held));
    assert_eq!(holder.read_line(), "held");

    let shown = on(&url, "status", &["--key", KEY]).output().unwrap();
    assert!(
        stdout(&shown).starts_with("held by \"first\" under fence 000000000000001"),
        "{shown:?}"
    );
    let refused = on(&url, "run", &["--key", KEY, "--no-wait", "--", "true"]).output().unwrap();
    assert_code(&refused, 75);

    assert_code(&holder.finish(), 0);
    assert_eq!(stdout(&on(&url, "status", &["--key", KEY]).output().unwrap()), "free");
}

#[tokio::test]
async fn a_connection_is_waited_for_like_a_lock_and_not_without_a_wait() {
    let server = PostgresServer::builder().setting("max_connections", "2");
    let server = server.setting("superuser_reserved_connections", "0").start().await.unwrap();
    let url = server.url();
    let hold = |key: &str| {
        let held = ["--key", key, "--", "sh", "-c", "echo held; read line; exit 0"];
        let mut holder = Running::start(&mut on(&url, "run", &held));
        assert_eq!(holder.read_line(), "held");
        holder
    };
    // While it holds a lock, the program has one connection.
    let [holder, other] = ["a", "b"].map(hold);
    let refused = on(&url, "run", &["--key", "c", "--no-wait", "--", "true"]).output().unwrap();
    assert_code(&refused, 69);
    assert!(only_line(&refused).contains("too many clients"), "{refused:?}");

    let waits = ["--key", "c", "--wait", "60s", "--", "echo", "done"];
    let rejections = || server.log().matches("too many clients").count();
    let before = rejections();
    let mut waiter = Running::start(&mut on(&url, "run", &waits));
    wait_until("the waiter is rejected", || rejections() > before);
    assert_code(&holder.finish(), 0);
    assert_eq!(waiter.read_line(), "done");
    assert_code(&waiter.wait(), 0);
    assert_code(&other.finish(), 0);
}

/// Runs a command under two locks, one of which is lost while it runs, and asserts that the program
/// reports that. A trigger with this body acts on the release of the other. Returns what the program
/// prints of that one.
async fn lose_one_of_two(release_of_the_other: &str) -> String {
    let server = PostgresServer::start().await.unwrap();
    let url = server.url();
    let held = ["--key", "a", "--key", "b", "--", "sh", "-c", "echo held; read line; exit 0"];
    let mut holder = Running::start(&mut on(&url, "run", &held));
    assert_eq!(holder.read_line(), "held");
    let faults = format!(
        "DELETE FROM syncguard_locks WHERE user_key = 'b';
        CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN {release_of_the_other}; RETURN OLD; END';
        CREATE TRIGGER fault BEFORE DELETE ON syncguard_locks
            FOR EACH ROW WHEN (OLD.user_key = 'a') EXECUTE FUNCTION fault()"
    );
    server.command(&["--command", &faults]).await.unwrap();

    let output = holder.finish();
    assert_code(&output, 76);
    let stderr = String::from_utf8(output.stderr).unwrap();
    let [kept, lost] = stderr.lines().collect::<Vec<_>>()[..] else { panic!("{stderr}") };
    assert!(kept.contains("left to its ttl") && !kept.contains("lost"), "{kept}");
    assert!(lost.contains("the lock was lost: key \"b\" ("), "{lost}");
    assert!(lost.contains("overlapped"), "{lost}");
    kept.to_owned()
}

#[tokio::test]
async fn a_lock_that_was_lost_is_reported_although_another_cannot_be_released() {
    let kept = lose_one_of_two("RAISE EXCEPTION ''this row is kept''").await;
    assert!(kept.contains("this row is kept"), "{kept}");
}

#[tokio::test]
async fn a_lock_that_was_lost_is_reported_although_the_release_of_another_hangs() {
    let kept = lose_one_of_two("PERFORM pg_sleep(600)").await;
    assert!(kept.contains("the store does not answer"), "{kept}");
}

#[tokio::test]
async fn the_printed_schema_is_the_one_that_is_applied() {
    let (one, other) =
        (PostgresServer::start().await.unwrap(), PostgresServer::start().await.unwrap());
    let printed = on(&one.url(), "schema", &[]).output().unwrap();
    assert_code(&printed, 0);
    one.command(&["--command", stdout(&printed)]).await.unwrap();
    for _ in 0..2 {
        let applied = on(&other.url(), "schema", &["--apply"]).output().unwrap();
        assert_code(&applied, 0);
        assert!(applied.stdout.is_empty() && applied.stderr.is_empty(), "{applied:?}");
    }
    let columns = "SELECT table_name, column_name, data_type, is_nullable, column_default \
                   FROM information_schema.columns WHERE table_name LIKE 'syncguard%' ORDER BY 1, 2";
    let by_hand = one.command(&["--command", columns]).await.unwrap();
    assert!(by_hand.contains("syncguard_fence_counters"), "{by_hand}");
    assert_eq!(by_hand, other.command(&["--command", columns]).await.unwrap());
}

#[test]
fn a_store_without_tables_has_no_schema() {
    for url in ["redis://localhost", "memory:", ""] {
        let output = on(url, "schema", &[]).output().unwrap();
        assert_code(&output, 64);
        assert!(only_line(&output).contains("only postgres:// and mysql:// stores"), "{output:?}");
    }
}
