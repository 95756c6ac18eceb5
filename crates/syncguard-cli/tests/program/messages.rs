//! The words of errors.

use std::process::Stdio;

use syncguard::LockKey;
use syncguard_testkit::server::PostgresServer;

use crate::sandbox::{KEY, Running, Sandbox, assert_code, only_line, program};

#[track_caller]
fn refusal(arguments: &[&str], code: i32) -> String {
    let output = program().args(arguments).output().unwrap();
    assert_code(&output, code);
    only_line(&output).to_owned()
}

#[test]
fn misspelt_words_are_named_with_similar_ones() {
    for (arguments, similar) in [
        (&["statsu"][..], "'status'"),
        (&["run", "--onwer", "k", "--", "true"], "'--owner'"),
        (&["run", "--key", "k", "--wiat", "5s", "--", "true"], "'--wait'"),
    ] {
        let line = refusal(arguments, 64);
        assert!(line.contains("similar") && line.contains(similar), "{line}");
    }
}

#[test]
fn the_host_that_refuses_is_named_once_and_in_words() {
    // No server listens on the port of the echo service, which only root may open.
    for (store, server) in [
        ("redis://u:secret@127.0.0.1:7", "127.0.0.1:7"),
        ("redis-cluster://127.0.0.1:7", "the cluster of 127.0.0.1:7"),
        ("postgres://u:secret@127.0.0.1:7/d", "127.0.0.1:7/d"),
        ("mysql://u:secret@127.0.0.1:7/d", "127.0.0.1:7/d"),
    ] {
        let line = refusal(&["status", "--key", "k", "--store", store], 69);
        let rest = line.strip_prefix(&format!(
            "syncguard: connect: the store is unavailable: {server}: could not connect: \
             Connection refused"
        ));
        assert!(matches!(rest, Some("" | " (os error 111)")), "{line}");
    }
}

#[test]
fn a_port_that_is_no_number_is_the_reason() {
    for store in ["redis://cache:notaport", "postgres://db:notaport/d", "mysql://db:notaport/d"] {
        let line = refusal(&["status", "--key", "k", "--store", store], 64);
        assert!(line.contains("the port is not a number"), "{line}");
    }
}

#[tokio::test]
async fn the_reason_of_a_database_is_its_message_alone() {
    let server = PostgresServer::start().await.unwrap();
    let url = server.url();
    let url = format!("{}/absent", url.rsplit_once('/').unwrap().0);
    let line = refusal(&["status", "--key", "k", "--store", &url], 64);
    assert!(line.contains("database \"absent\" does not exist"), "{line}");
    assert!(!line.contains("at line") && !line.contains("error returned"), "{line}");
    assert_eq!(line.matches("does not exist").count(), 1, "{line}");
}

#[test]
fn the_key_is_shown_to_the_user_who_typed_it_with_the_hash_of_the_logs() {
    let sandbox = Sandbox::new();
    let named = format!("\"{KEY}\" ({})", LockKey::new(KEY).unwrap().display_hash());
    let mut holder = sandbox.run(&["--owner", "ci-7"], "echo held; read line; exit 0");
    let mut holder = Running::start_with(&mut holder, Stdio::piped());
    assert_eq!(holder.read_line(), "held");
    let output = sandbox.run(&["--no-wait"], "true").output().unwrap();
    assert_code(&output, 75);
    let expected = format!("syncguard: not run: lock {named} is held by \"ci-7\" under fence");
    assert!(only_line(&output).starts_with(&expected), "{output:?}");
    let output = sandbox.command(&["release", KEY, "--force", "--yes"]).output().unwrap();
    assert_code(&output, 0);
    let output = holder.finish();
    assert_code(&output, 76);
    let expected = format!("the lock was lost: key {named}: ");
    assert!(only_line(&output).contains(&expected), "{output:?}");
}

#[test]
fn a_ttl_of_zero_is_shown_as_it_was_typed() {
    let line = refusal(&["run", "--key", "k", "--ttl", "0s", "--", "true"], 64);
    assert!(line.contains("ttl 0s is not a positive"), "{line}");
}
