//! Clients in two languages that fight for the same locks.

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

/// Where the packages are named that the script needs: those of the double's tests.
const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../firestore-emulator/tests/node");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/storm.mjs");

const KEYS: [&str; 2] = ["one", "other"];
const TASKS: usize = 8;

/// How long the storm lasts, in seconds, unless the environment says otherwise.
const SECONDS: &str = "SYNCGUARD_STORM_SECONDS";
const DEFAULT_SECONDS: u64 = 12;

/// How often each side must have had a lock for the storm to say anything.
const LEAST: u64 = 5;

fn length() -> Duration {
    let seconds = env::var(SECONDS).ok().map(|text| text.parse().unwrap());
    Duration::from_secs(seconds.unwrap_or(DEFAULT_SECONDS))
}

/// Stays in a lock: makes a file that must not be there, and writes the fence down.
async fn stay(guard: &LockGuard, directory: &Path, key: &str, round: u64) {
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

/// Takes locks until it is over. Gives how often.
async fn contend(locks: LockManager, directory: PathBuf, task: u64, end: Instant) -> u64 {
    let mut grants = 0;
    for round in task.. {
        if Instant::now() >= end {
            break;
        }
        let key = KEYS[usize::try_from(round).unwrap() % KEYS.len()];
        let guard = locks.lock(key).ttl("30s").wait(LONG).acquire().await.unwrap();
        stay(&guard, &directory, key, round).await;
        assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::Released);
        grants += 1;
        // Long enough for those to have their turn who make more round trips.
        tokio::time::sleep(Duration::from_millis(100 + round % 300)).await;
    }
    grants
}

/// Lets 8 clients for Node run beside us. Gives how often they had a lock.
async fn node(emulator: &Emulator, directory: &Path, length: Duration) -> u64 {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let node = Node::install(Path::new(PACKAGES), target).await.unwrap();
    let mut command = node.command(Path::new(SCRIPT)).unwrap();
    command.args(["8", &length.as_millis().to_string()]).arg(directory).args(KEYS);
    command.env("FIRESTORE_EMULATOR_HOST", emulator.address().to_string());
    let report = stdout_of("storm.mjs", &command.output().await.unwrap()).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    report["grants"].as_u64().unwrap()
}

/// Makes sure that fences only rose in the order of the stays, and that both languages were there.
fn judge(directory: &Path, grants: u64) {
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
    let (directory, length) = (tempfile::tempdir().unwrap(), length());
    // Installing must not take from the storm.
    node(&emulator, directory.path(), Duration::ZERO).await;
    let locks: Vec<_> = (0..TASKS).map(|_| LockManager::new(connect(&emulator))).collect();
    let end = Instant::now() + length;
    let mut tasks = tokio::task::JoinSet::new();
    for (task, locks) in (0..).zip(&locks) {
        tasks.spawn(contend(locks.clone(), directory.path().to_owned(), task, end));
    }
    let theirs = node(&emulator, directory.path(), length).await;
    let ours: u64 = tasks.join_all().await.into_iter().sum();
    for locks in locks {
        assert_eq!(locks.shutdown(LONG).await, ShutdownOutcome::Drained);
    }
    eprintln!("{concurrency:?}: {ours} grants here, {theirs} there, in {length:?}");
    judge(directory.path(), ours + theirs);
    // Where commits conflict, whoever makes fewer round trips wins most of the time.
    assert!(ours.min(theirs) >= LEAST, "{ours} grants here and {theirs} there are too few");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_here_and_clients_for_node_exclude_each_other_where_reads_lock() {
    let test = storm(Concurrency::Pessimistic);
    unless_skipped("firestore", "node_storm_where_reads_lock", test).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_here_and_clients_for_node_exclude_each_other_where_commits_conflict() {
    let test = storm(Concurrency::Optimistic);
    unless_skipped("firestore", "node_storm_where_commits_conflict", test).await.unwrap();
}
