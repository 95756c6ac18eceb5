//! Locks in a MariaDB database.

use std::process::Command;

use syncguard_testkit::server::MariadbServer;

use crate::sandbox::{KEY, Running, assert_code, program, stdout};

fn on(url: &str, verb: &str, rest: &[&str]) -> Command {
    let mut program = program();
    program.arg(verb).args(rest).env("SYNCGUARD_STORE", url);
    program
}

#[tokio::test]
async fn two_programs_exclude_each_other_in_mariadb() {
    let server = MariadbServer::start().await.unwrap();
    let url = server.url();
    let held = ["--key", KEY, "--owner", "first", "--", "sh", "-c", "echo held; read line; exit 0"];
    let mut holder = Running::start(&mut on(&url, "run", &held));
    assert_eq!(holder.read_line(), "held");

    let other = url.replace("mysql://", "mariadb://");
    let shown = on(&other, "status", &["--key", KEY]).output().unwrap();
    assert!(
        stdout(&shown).starts_with("held by \"first\" under fence 000000000000001"),
        "{shown:?}"
    );
    let refused = on(&other, "run", &["--key", KEY, "--no-wait", "--", "true"]).output().unwrap();
    assert_code(&refused, 75);

    assert_code(&holder.finish(), 0);
    assert_eq!(stdout(&on(&url, "status", &["--key", KEY]).output().unwrap()), "free");
}

#[tokio::test]
async fn the_printed_schema_of_mariadb_is_the_one_that_is_applied() {
    let (one, other) =
        (MariadbServer::start().await.unwrap(), MariadbServer::start().await.unwrap());
    let printed = on(&one.url(), "schema", &[]).output().unwrap();
    assert_code(&printed, 0);
    one.command(&["--execute", stdout(&printed)]).await.unwrap();
    for _ in 0..2 {
        let applied = on(&other.url(), "schema", &["--apply"]).output().unwrap();
        assert_code(&applied, 0);
        assert!(applied.stdout.is_empty() && applied.stderr.is_empty(), "{applied:?}");
    }
    let made = "SHOW CREATE TABLE syncguard_locks";
    let by_hand = one.command(&["--execute", made]).await.unwrap();
    assert!(by_hand.contains("lock_key"), "{by_hand}");
    assert_eq!(by_hand, other.command(&["--execute", made]).await.unwrap());
}
