use std::time::Instant;

use syncguard_core::{
    LockKey,
    backend::{AcquireOutcome, LockBackend, LockRef},
};
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::bench::{Bar, Table, median};

use crate::{
    connect,
    raw::{Notify, Raw},
    speed::request,
};

const TASKS: usize = 16;

/// The number of pairs in a turn, and the number of turns.
const PAIRS: usize = 2_400;
const TURNS: usize = 40;

/// Measures sixteen connections, each with its own keys, with synchronous commit.
pub(crate) async fn measure(url: &str, table: &mut Table) {
    let backend = connect(url, TASKS as u32).await;
    let watcher = connect(url, 2).await;
    let (mut with_notify, mut without_notify, mut typescript) =
        (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TASKS {
        with_notify.push(Raw::connect(url, Notify::Waiters).await);
        without_notify.push(Raw::connect(url, Notify::Never).await);
        typescript.push(Raw::connect(url, Notify::Never).await);
    }
    let (mut ours, mut rates_with_notify, mut rates_without_notify, mut original, mut waited) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for turn in 0..TURNS {
        ours.push(of_backend(&backend, key).await);
        // The second variant of a turn finds more dead rows, so the order alternates.
        if turn % 2 == 0 {
            rates_with_notify.push(by_hand(&mut with_notify, Work::Statements).await);
            rates_without_notify.push(by_hand(&mut without_notify, Work::Statements).await);
        } else {
            rates_without_notify.push(by_hand(&mut without_notify, Work::Statements).await);
            rates_with_notify.push(by_hand(&mut with_notify, Work::Statements).await);
        }
        original.push(by_hand(&mut typescript, Work::Transactions).await);
        // These keys are separate, because they stay watched for a while.
        tokio::select! {
            () = watch_all(&watcher) => {}
            rate = of_backend(&backend, watched_key) => waited.push(rate),
        }
    }
    let ratio = |one: &[f64], other: &[f64]| {
        median(one.iter().zip(other).map(|(one, other)| one / other).collect())
    };
    let (won, cost) = (ratio(&ours, &original), ratio(&rates_with_notify, &rates_without_notify));
    table.note("16 connections, the original's transactions", median(original), "pairs/s");
    table.note("16 connections", median(ours), "pairs/s");
    table.judge("  … beside each other, median of turns", won, "×", Bar::AtLeast(2.0));
    table.note(
        "16 connections, by hand, without wake-ups",
        median(rates_without_notify),
        "pairs/s",
    );
    table.note(
        "16 connections, by hand, with wake-ups, nobody waits",
        median(rates_with_notify),
        "pairs/s",
    );
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

/// What a connection runs by hand.
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
