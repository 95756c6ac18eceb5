//! Google's own client for Node, as its users run it.

use std::path::Path;

use firestore_emulator::{Concurrency, Emulator};
use syncguard_testkit::node::{Node, stdout_of, unless_skipped};

use super::start_as;

/// The directory of the scripts and their packages in the repository.
const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node");

/// The name of these tests in a report.
const SUITE: &str = "firestore-emulator";

/// Runs a script to its end, and returns its output.
async fn run(emulator: &Emulator, script: &str, arguments: &[&str]) -> String {
    let files = Path::new(FILES);
    let node = Node::install(files, Path::new(env!("CARGO_TARGET_TMPDIR"))).await.unwrap();
    let mut command = node.command(&files.join(script)).unwrap();
    command.args(arguments).env("FIRESTORE_EMULATOR_HOST", emulator.address().to_string());
    stdout_of(script, &command.output().await.unwrap()).unwrap()
}

async fn count(concurrency: Concurrency) {
    let (emulator, _client) = start_as(concurrency).await;
    let printed = run(&emulator, "contention.mjs", &["8", "5"]).await;
    assert!(printed.contains(r#""count":40,"#), "{printed}");
}

#[tokio::test]
async fn eight_node_clients_count_exactly_in_pessimistic_mode() {
    let test = count(Concurrency::Pessimistic);
    unless_skipped(SUITE, "node_counts_where_reads_lock", test).await.unwrap();
}

#[tokio::test]
async fn eight_node_clients_count_exactly_in_optimistic_mode() {
    let test = count(Concurrency::Optimistic);
    unless_skipped(SUITE, "node_counts_where_commits_conflict", test).await.unwrap();
}

#[tokio::test]
async fn the_features_of_the_node_client_that_a_lock_needs_work() {
    let test = async {
        for concurrency in [Concurrency::Pessimistic, Concurrency::Optimistic] {
            let (emulator, _client) = start_as(concurrency).await;
            assert_eq!(run(&emulator, "surface.mjs", &[]).await, "ok");
        }
    };
    unless_skipped(SUITE, "node_has_what_a_lock_needs", test).await.unwrap();
}
