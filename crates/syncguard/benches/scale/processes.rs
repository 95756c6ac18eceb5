//! Processes that lock one key in turn, each of them once.

use std::{
    env::current_exe,
    process::Stdio,
    time::{Duration, Instant},
};

use syncguard::{DynBackend, LockManager, Retry, connect};
use syncguard_testkit::{
    bench::{Bar, Table},
    server::{PostgresServer, RedisServer},
};
use tokio::{
    process::{Child, Command},
    time::sleep,
};

use crate::{Options, commands::script_calls};

const KEY: &str = "bench:processes";

/// Longer than any process waits.
const WAIT: Duration = Duration::from_secs(120);

/// How long each process holds the key.
const HOLD: Duration = Duration::from_millis(1);

pub(crate) async fn measure(options: &Options, table: &mut Table) {
    let (count, crowd) = (options.of("processes", 200), options.of("crowd", 1_000));
    let redis = RedisServer::builder().setting("save", "").start().await.unwrap();
    let before = script_calls(&redis.url());
    let took = in_turn(&redis.url(), count).await;
    let calls = (script_calls(&redis.url()) - before) / f64::from(count);
    report("Redis", count, &took, table);
    table.judge("Redis: calls of scripts for each grant", calls, "", Bar::AtMost(10.0));
    table.recorded("90");
    report("Redis", crowd, &in_turn(&redis.url(), crowd).await, table);

    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", directory.path().join("locks.db").display());
    report("SQLite", count, &in_turn(&url, count).await, table);
    table.recorded("9 s, and 35 s on a busy machine");

    let postgres = PostgresServer::builder().setting("max_connections", "100").start();
    let postgres = postgres.await.unwrap();
    report("PostgreSQL, 100 connections", count, &in_turn(&postgres.url(), count).await, table);
    table.recorded("80 to 120 served");
}

/// What came of the processes.
struct Took {
    served: u32,
    time: Duration,
}

fn report(store: &str, count: u32, took: &Took, table: &mut Table) {
    let served = f64::from(took.served);
    let what = format!("{store}: {count} processes with one key");
    table.judge(&format!("{what}: served"), served, "", Bar::AtLeast(f64::from(count)));
    table.note(&format!("{what}: all done after"), took.time.as_secs_f64(), "s");
}

/// Starts the processes together, and returns how many of them were served, and when all had ended.
async fn in_turn(url: &str, count: u32) -> Took {
    // The tables exist before.
    drop(open(url).await);
    let start = Instant::now();
    let started: Vec<Child> = (0..count)
        .map(|_| {
            let mut process = Command::new(current_exe().unwrap());
            process.args(["process", url]).stdin(Stdio::null()).kill_on_drop(true);
            process.spawn().unwrap()
        })
        .collect();
    let mut served = 0;
    for mut process in started {
        served += u32::from(process.wait().await.unwrap().success());
    }
    Took { served, time: start.elapsed() }
}

/// Locks the key once, as a process of its own.
pub(crate) async fn run(url: &str) {
    let locks = LockManager::new(open(url).await);
    let work = async |_| sleep(HOLD).await;
    locks.lock(KEY).wait(WAIT).retry(Retry::default().unlimited()).run(work).await.unwrap();
}

/// Opens the store, and tries again while it has no connection left, as the program does.
async fn open(url: &str) -> DynBackend {
    let start = Instant::now();
    let mut delays = Retry::default().unlimited().delays();
    loop {
        match connect(url).await {
            Err(error) if error.is_retryable() && start.elapsed() < WAIT => {
                sleep(delays.next().unwrap_or_default()).await;
            }
            opened => return opened.unwrap(),
        }
    }
}
