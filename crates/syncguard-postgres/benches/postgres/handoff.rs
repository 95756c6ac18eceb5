use std::time::Instant;

use syncguard_core::{LockId, LockManager};
use syncguard_testkit::bench::{Bar, Table, handoffs, hold, median, queue};

use crate::{
    connect,
    raw::{Notify, Raw},
};

/// How often the tasks are repeated over open connections.
const CONVOYS: usize = 9;

pub(crate) async fn measure(url: &str, table: &mut Table) {
    let times = handoffs(&LockManager::new(connect(url, 4).await), url).await;
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    table.judge("release to entry in another process, mean", mean, "µs", Bar::AtMost(2_000.0));
    table.note("release to entry in another process, p50", median(times), "µs");
    convoys(url, table).await;
}

/// Measures many tasks that start at once and hold the key one after the other.
pub(crate) async fn convoys(url: &str, table: &mut Table) {
    let mut clients = Vec::new();
    for _ in 0..16 {
        clients.push(LockManager::new(connect(url, 4).await));
    }
    let mut hand = Raw::connect(url, Notify::Waiters).await;
    let mut floor = Vec::new();
    for _ in 0..CONVOYS {
        floor.push(in_turn(&mut hand).await);
    }
    let what = "16 holds of 10 ms in turn, by hand on one connection, median";
    table.note(what, median(floor), "ms");
    for (what, clients) in [
        ("in one client", &clients[..1]),
        ("in two clients", &clients[..2]),
        ("in sixteen clients", &clients),
    ] {
        let what = format!("16 tasks that hold 10 ms each, {what}");
        table.judge(&what, queue(clients).await, "ms", Bar::AtMost(200.0));
        let mut again = Vec::new();
        for _ in 0..CONVOYS {
            again.push(queue(clients).await);
        }
        table.note("  … again, over open connections, median", median(again), "ms");
    }
}

/// Acquires, holds and releases a key 16 times, one after the other and without a waiter: what any
/// client needs for as many holds.
async fn in_turn(hand: &mut Raw) -> f64 {
    let start = Instant::now();
    for _ in 0..16 {
        let id = LockId::mint().unwrap();
        assert!(hand.attempt("bench:turn:000000000", id).await);
        hold().await;
        hand.release(id).await;
    }
    start.elapsed().as_secs_f64() * 1e3
}
