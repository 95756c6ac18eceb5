use syncguard_core::LockManager;
use syncguard_testkit::bench::{Bar, Table, handoffs, median, queue};

use crate::connect;

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
