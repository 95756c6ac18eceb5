//! Readers, writers and permits over several processes: how fast readers share a key, and how long
//! the ones wait among the others.
//!
//! Run by `cargo bench -p syncguard --features sqlite,redis,postgres --bench modes`; starts servers of
//! its own, and each process is this program again. Each line shows a bar and whether it is met. With
//! the argument `only NAME` it measures one store; with `seconds N` it takes N seconds for each
//! measurement instead of 5, and with `waits N` it measures N waits instead of 200.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails panics")]

#[path = "../fairness/member.rs"]
mod member;

use std::time::{Duration, Instant};

use syncguard::{LockBuilder, LockManager, connect};
use syncguard_testkit::{
    bench::{Bar, Table, median},
    server::{PostgresServer, RedisServer},
};
use tokio::time::sleep;

use self::member::{Crowd, Did, KEY, Lock, Task, together};

const HOLD: Duration = Duration::from_millis(20);

/// How long the permits of the semaphore are held, and how many there are.
const PERMIT_HOLD: Duration = Duration::from_millis(10);
const PERMITS: u32 = 4;

/// Readers of one key, beside exclusive locks on as many keys.
const READERS: f64 = 0.5;
/// The worst wait of a writer among readers: their hold and a second.
const WRITER_MS: f64 = 1_020.0;
/// The worst wait of a reader among writers.
const READER_MS: f64 = 2_000.0;
/// The time of a round of the semaphore, beside the time without any overhead.
const SEMAPHORE: f64 = 1.25;

/// How much is measured.
#[derive(Clone, Copy)]
struct Extent {
    time: Duration,
    waits: u32,
}

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.unwrap();
    // Cargo itself passes `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["member", url, task] = words[..] {
        return runtime.block_on(member::be(url, task.parse().unwrap()));
    }
    let value = |name| {
        let index = words.iter().position(|word| *word == name);
        index.map(|index| words[index + 1])
    };
    let time = Duration::from_secs(value("seconds").map_or(5, |text| text.parse().unwrap()));
    let waits = value("waits").map_or(200, |text| text.parse().unwrap());
    runtime.block_on(measure(Extent { time, waits }, value("only")));
}

async fn measure(extent: Extent, only: Option<&str>) {
    let directory = tempfile::tempdir().unwrap();
    let redis = RedisServer::builder().setting("save", "").start().await.unwrap();
    let postgres = PostgresServer::start().await.unwrap();
    let file = directory.path().join("locks.db");
    let stores = [
        ("SQLite", format!("sqlite://{}", file.display())),
        ("Redis", redis.url()),
        ("PostgreSQL", postgres.url()),
    ];
    let mut table = Table::default();
    for (name, url) in stores.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)) {
        readers(name, url, extent.time, &mut table).await;
        semaphore(name, url, extent.time, &mut table).await;
        let readers = Task { lock: Lock::Shared, ..Task::new(8, HOLD, Duration::ZERO) };
        let waits = among(url, readers, extent.waits, |locks, key| locks.lock(key)).await;
        report(&format!("{name}: a writer among 32 readers"), waits, WRITER_MS, &mut table);
        let writers = Task::new(8, HOLD, Duration::ZERO);
        let waits = among(url, writers, extent.waits, |locks, key| locks.lock(key).shared()).await;
        report(&format!("{name}: a reader among 32 writers"), waits, READER_MS, &mut table);
    }
    table.print();
}

/// Reports waits, in milliseconds, of which the worst has a bar.
fn report(what: &str, waits: Vec<f64>, bar: f64, table: &mut Table) {
    let (count, worst) = (waits.len(), waits.iter().copied().fold(0.0, f64::max));
    table.note(&format!("{what}, median"), median(waits), "ms");
    table.judge(&format!("{what}, worst of {count}"), worst, "ms", Bar::AtMost(bar));
}

/// Readers of one key beside exclusive locks on as many keys, in one process and in eight.
async fn readers(name: &str, url: &str, time: Duration, table: &mut Table) {
    for (processes, tasks) in [(1, 64), (8, 8)] {
        let rate = async |lock| {
            let task = Task { lock, ..Task::new(tasks, Duration::ZERO, time) };
            let did = together(url, vec![task; processes]).await;
            did.into_iter().map(|did| did.rate(time)).sum::<f64>()
        };
        let (exclusive, shared) = (rate(Lock::OwnKey).await, rate(Lock::Shared).await);
        let what = format!("{name}: {processes} processes with {tasks} tasks");
        table.note(&format!("{what}, exclusive, a key each"), exclusive, "/s");
        table.note(&format!("{what}, readers of one key"), shared, "/s");
        let what = format!("{what}, readers beside exclusive");
        table.judge(&what, shared / exclusive, "x", Bar::AtLeast(READERS));
    }
}

/// The time in which each of 16 processes gets a permit once, beside the time of the holds alone.
async fn semaphore(name: &str, url: &str, time: Duration, table: &mut Table) {
    let task = Task { lock: Lock::Permit(PERMITS), ..Task::new(1, PERMIT_HOLD, time) };
    let did = together(url, vec![task; 16]).await;
    let rate: f64 = did.iter().map(|did| did.rate(time)).sum();
    let ideal = f64::from(PERMITS) / PERMIT_HOLD.as_secs_f64();
    let what = format!("{name}: 4 permits, 16 processes, a round beside the ideal 40 ms");
    table.judge(&what, ideal / rate, "x", Bar::AtMost(SEMAPHORE));
    let failed: f64 = did.iter().map(|did| did.failed).sum();
    table.judge(&format!("{name}: waits that failed"), failed, "", Bar::AtMost(0.0));
}

/// Returns the waits, in milliseconds, of one task beside four processes that do `crowd`.
async fn among(
    url: &str,
    crowd: Task,
    waits: u32,
    lock: impl Fn(&LockManager, &'static str) -> LockBuilder,
) -> Vec<f64> {
    let locks = LockManager::new(connect(url).await.unwrap());
    let crowd = Crowd::start(url, vec![crowd; 4]).await;
    sleep(Duration::from_secs(2)).await;
    let mut waited = Vec::new();
    for _ in 0..waits {
        let asked = Instant::now();
        let guard = lock(&locks, KEY).wait(Duration::from_secs(30)).acquire().await.unwrap();
        waited.push(asked.elapsed().as_secs_f64() * 1e3);
        let _ = guard.release().await.unwrap();
        sleep(HOLD).await;
    }
    let _: Vec<Did> = crowd.end().await;
    waited
}
