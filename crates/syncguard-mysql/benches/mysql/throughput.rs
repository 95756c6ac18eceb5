use std::time::Instant;

use syncguard_core::{LockKey, LockManager};
use syncguard_mysql::MysqlBackend;
use syncguard_testkit::bench::{Table, median, queue};

use crate::{connect, raw::Raw, speed::pair};

const TASKS: usize = 16;

/// The number of pairs in a turn, and the number of turns.
const PAIRS: usize = 1_600;
const TURNS: usize = 9;

/// Measures sixteen connections, each with its own keys, and sixteen tasks that contend for one
/// lock.
pub(crate) async fn measure(url: &str, table: &mut Table) {
    let backend = connect(url, TASKS as u32).await;
    let mut raw = Vec::new();
    for _ in 0..TASKS {
        raw.push(Raw::connect(url).await);
    }
    let [mut ours, mut by_hand, mut transactions] = [const { Vec::new() }; 3];
    for _ in 0..TURNS {
        ours.push(of_backend(&backend).await);
        by_hand.push(of_connections(&mut raw, Work::Statements).await);
        transactions.push(of_connections(&mut raw, Work::Transactions).await);
    }
    table.note("16 connections, transactions by hand", median(transactions), "pairs/s");
    table.note("16 connections, by hand", median(by_hand), "pairs/s");
    table.note("16 connections", median(ours), "pairs/s");
    let client = [LockManager::new(connect(url, 4).await)];
    table.note("16 tasks that hold 10 ms each, in one client", queue(&client).await, "ms");
    let clients =
        [LockManager::new(connect(url, 4).await), LockManager::new(connect(url, 4).await)];
    table.note("16 tasks that hold 10 ms each, in two clients", queue(&clients).await, "ms");
}

fn key(task: usize) -> LockKey {
    LockKey::new(&format!("bench:task:{task:09}")).unwrap()
}

async fn of_backend(backend: &MysqlBackend) -> f64 {
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let (backend, key) = (backend.clone(), key(task));
        tasks.spawn(async move {
            for _ in 0..PAIRS / TASKS {
                pair(&backend, &key).await;
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
async fn of_connections(connections: &mut Vec<Raw>, work: Work) -> f64 {
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for (task, mut raw) in connections.drain(..).enumerate() {
        tasks.spawn(async move {
            let key = key(task);
            for _ in 0..PAIRS / TASKS {
                match work {
                    Work::Statements => raw.acquire_and_release(key.as_str()).await,
                    Work::Transactions => raw.transaction_and_release(key.as_str()).await,
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
