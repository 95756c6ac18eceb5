use std::time::Instant;

use syncguard_core::{AcquireOutcome, LockBackend, LockKey, LockRef};
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::bench::{Bar, Table, median};

use crate::{
    connect,
    raw::{Raw, Telling},
    speed::request,
};

const TASKS: usize = 16;

/// How many pairs a turn has, and how many turns there are.
const PAIRS: usize = 2_400;
const TURNS: usize = 40;

/// Sixteen connections, each with keys of its own, synchronous commit on.
pub(crate) async fn measure(url: &str, table: &mut Table) {
    let backend = connect(url, TASKS as u32).await;
    let watcher = connect(url, 2).await;
    let (mut told, mut untold, mut typescript) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TASKS {
        told.push(Raw::connect(url, Telling::Told).await);
        untold.push(Raw::connect(url, Telling::Untold).await);
        typescript.push(Raw::connect(url, Telling::Untold).await);
    }
    let (mut ours, mut tells, mut tells_not, mut original, mut waited) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for turn in 0..TURNS {
        ours.push(of_backend(&backend, key).await);
        // Whoever comes second finds more to clear away.
        if turn % 2 == 0 {
            tells.push(by_hand(&mut told, Work::Statements).await);
            tells_not.push(by_hand(&mut untold, Work::Statements).await);
        } else {
            tells_not.push(by_hand(&mut untold, Work::Statements).await);
            tells.push(by_hand(&mut told, Work::Statements).await);
        }
        original.push(by_hand(&mut typescript, Work::Transactions).await);
        // Keys of their own, which stay watched for a while.
        tokio::select! {
            () = watch_all(&watcher) => {}
            rate = of_backend(&backend, watched_key) => waited.push(rate),
        }
    }
    let ratio = |one: &[f64], other: &[f64]| {
        median(one.iter().zip(other).map(|(one, other)| one / other).collect())
    };
    let (won, cost) = (ratio(&ours, &original), ratio(&tells, &tells_not));
    table.note("16 connections, the original's transactions", median(original), "pairs/s");
    table.note("16 connections", median(ours), "pairs/s");
    table.judge("  … beside each other, median of turns", won, "×", Bar::AtLeast(2.0));
    table.note("16 connections, by hand, without wake-ups", median(tells_not), "pairs/s");
    table.note("16 connections, by hand, with wake-ups, nobody waits", median(tells), "pairs/s");
    table.judge("  … beside each other, median of turns", cost, "×", Bar::AtLeast(0.97));
    table.note("16 connections, somebody waits for each key", median(waited), "pairs/s");
}

/// Watches all keys, and never ends.
async fn watch_all(watcher: &PostgresBackend) {
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let (watcher, key) = (watcher.clone(), watched_key(task));
        tasks.spawn(async move {
            loop {
                watcher.released(&key).await;
            }
        });
    }
    tasks.join_all().await;
}

fn watched_key(task: usize) -> LockKey {
    LockKey::new(&format!("bench:watched:{task:06}")).unwrap()
}

fn key(task: usize) -> LockKey {
    LockKey::new(&format!("bench:task:{task:09}")).unwrap()
}

async fn of_backend(backend: &PostgresBackend, key: fn(usize) -> LockKey) -> f64 {
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let (backend, key) = (backend.clone(), key(task));
        tasks.spawn(async move {
            for _ in 0..PAIRS / TASKS {
                let request = request(&key);
                let outcome = backend.acquire(&request).await.unwrap();
                assert!(matches!(outcome, AcquireOutcome::Granted(_)), "{outcome:?}");
                backend.release(&LockRef::new(request.lock_id, request.key)).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    PAIRS as f64 / start.elapsed().as_secs_f64()
}

/// What is done by hand.
#[derive(Clone, Copy)]
enum Work {
    Statements,
    Transactions,
}

/// Lets each connection work on its own key.
async fn by_hand(connections: &mut Vec<Raw>, work: Work) -> f64 {
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for (task, mut raw) in connections.drain(..).enumerate() {
        tasks.spawn(async move {
            let key = key(task);
            for _ in 0..PAIRS / TASKS {
                match work {
                    Work::Statements => raw.acquire_and_release(key.as_str()).await,
                    Work::Transactions => raw.as_typescript(key.as_str()).await,
                }
            }
            raw
        });
    }
    let done = tasks.join_all().await;
    let rate = PAIRS as f64 / start.elapsed().as_secs_f64();
    connections.extend(done);
    rate
}
