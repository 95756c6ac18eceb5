//! Clients in two languages that contend for the same locks.

use std::{
    env,
    fs::{File, OpenOptions, read_to_string, remove_file},
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use firestore_emulator::{Concurrency, Emulator};
use serde_json::Value;
use syncguard_core::{LockGuard, LockManager, ReleaseOutcome, ShutdownOutcome};
use syncguard_testkit::{
    node::{Node, stdout_of, unless_skipped},
    operations::LONG,
};

use crate::{connect, start_as};

/// The directory that names the packages of the script: that of the double's tests.
const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../firestore-emulator/tests/node");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/storm.mjs");

const KEYS: [&str; 2] = ["one", "other"];
const TASKS: usize = 8;

/// The variable that sets how long the storm lasts, and its default, in seconds.
const SECONDS: &str = "SYNCGUARD_STORM_SECONDS";
const DEFAULT_SECONDS: u64 = 12;

/// The minimum number of grants in each language for the storm to be meaningful.
const MIN_GRANTS: u64 = 5;

fn duration() -> Duration {
    let seconds = env::var(SECONDS).ok().map(|text| text.parse().unwrap());
    Duration::from_secs(seconds.unwrap_or(DEFAULT_SECONDS))
}

/// Holds a lock: creates a file that must not exist yet, and records the fence.
async fn hold_lock(guard: &LockGuard, directory: &Path, key: &str, round: u64) {
    let held: PathBuf = directory.join(format!("{key}.held"));
    File::create_new(&held).unwrap_or_else(|error| panic!("two holders of {key}: {error}"));
    let fences = directory.join(format!("{key}.fences"));
    let mut fences = OpenOptions::new().append(true).create(true).open(fences).unwrap();
    let line = format!("{} rust\n", guard.fence().unwrap());
    fences.write_all(line.as_bytes()).unwrap();
    tokio::time::sleep(Duration::from_millis(round % 5)).await;
    if round.is_multiple_of(4) {
        guard.extend(LONG).await.unwrap();
    }
    assert!(guard.is_valid());
    remove_file(held).unwrap();
}

/// Acquires locks until `end`. Returns the number of grants.
async fn contend(locks: LockManager, directory: PathBuf, task: u64, end: Instant) -> u64 {
    let mut grants = 0;
    for round in task.. {
        if Instant::now() >= end {
            break;
        }
        let key = KEYS[usize::try_from(round).unwrap() % KEYS.len()];
        let guard = locks.lock(key).ttl("30s").wait(LONG).acquire().await.unwrap();
        hold_lock(&guard, &directory, key, round).await;
        assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::Released);
        grants += 1;
        // Long enough for clients that make more round trips to acquire a lock.
        tokio::time::sleep(Duration::from_millis(100 + round % 300)).await;
    }
    grants
}

/// Runs 8 Node clients. Returns the number of their grants.
async fn node(emulator: &Emulator, directory: &Path, duration: Duration) -> u64 {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let node = Node::install(Path::new(PACKAGES), target).await.unwrap();
    let mut command = node.command(Path::new(SCRIPT)).unwrap();
    command.args(["8", &duration.as_millis().to_string()]).arg(directory).args(KEYS);
    command.env("FIRESTORE_EMULATOR_HOST", emulator.address().to_string());
    let report = stdout_of("storm.mjs", &command.output().await.unwrap()).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    report["grants"].as_u64().unwrap()
}

/// Asserts that fences only increased in the order of the holds, and that both languages had
/// grants.
fn assert_fences(directory: &Path, grants: u64) {
    let mut lines = 0;
    for key in KEYS {
        let written = read_to_string(directory.join(format!("{key}.fences"))).unwrap();
        let fences: Vec<_> = written.lines().map(|line| line.split_once(' ').unwrap().0).collect();
        assert!(fences.is_sorted_by(|one, next| one < next), "{key}: {fences:?}");
        for language in ["rust", "node"] {
            assert!(written.contains(language), "nobody from {language} had {key}");
        }
        lines += fences.len() as u64;
    }
    assert_eq!(lines, grants);
}

async fn storm(concurrency: Concurrency) {
    let emulator = start_as(concurrency).await;
    let (directory, duration) = (tempfile::tempdir().unwrap(), duration());
    // Installs the packages first, so that this takes no time from the storm.
    node(&emulator, directory.path(), Duration::ZERO).await;
    let locks: Vec<_> = (0..TASKS).map(|_| LockManager::new(connect(&emulator))).collect();
    let end = Instant::now() + duration;
    let mut tasks = tokio::task::JoinSet::new();
    for (task, locks) in (0..).zip(&locks) {
        tasks.spawn(contend(locks.clone(), directory.path().to_owned(), task, end));
    }
    let theirs = node(&emulator, directory.path(), duration).await;
    let ours: u64 = tasks.join_all().await.into_iter().sum();
    for locks in locks {
        assert_eq!(locks.shutdown(LONG).await, ShutdownOutcome::Drained);
    }
    eprintln!("{concurrency:?}: {ours} grants here, {theirs} there, in {duration:?}");
    assert_fences(directory.path(), ours + theirs);
    // If commits conflict, the client with fewer round trips wins most of the time.
    assert!(ours.min(theirs) >= MIN_GRANTS, "{ours} grants here and {theirs} there are too few");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rust_and_node_clients_exclude_each_other_in_pessimistic_mode() {
    let test = storm(Concurrency::Pessimistic);
    unless_skipped("firestore", "node_storm_where_reads_lock", test).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rust_and_node_clients_exclude_each_other_in_optimistic_mode() {
    let test = storm(Concurrency::Optimistic);
    unless_skipped("firestore", "node_storm_where_commits_conflict", test).await.unwrap();
}
