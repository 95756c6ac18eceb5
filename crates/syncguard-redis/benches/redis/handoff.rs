use std::time::{Duration, Instant};

use syncguard_core::LockManager;
use syncguard_testkit::bench::{Bar, SETTLE, Table, handoffs, median, queue, to_micros};

use crate::{connect, raw::Raw};

const ROUNDS: usize = 200;

pub(crate) async fn measure(url: &str, table: &mut Table) {
    let (hot, round_trip) = (round_trip(url, None).await, round_trip(url, Some(SETTLE)).await);
    table.note("round trip of a PING among others, p50", hot, "µs");
    table.note("round trip of a PING after a pause, p50", round_trip, "µs");
    let times = handoffs(&LockManager::new(connect(url).await), url).await;
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    let (p50, limit) = (median(times), Bar::AtMost(5.0 * round_trip));
    table.judge("release to entry in another process, mean", mean, "µs", Bar::AtMost(1_000.0));
    table.judge("release to entry in another process, p50", p50, "µs", limit);
    let clients = [LockManager::new(connect(url).await), LockManager::new(connect(url).await)];
    for (what, clients) in [("in one client", &clients[..1]), ("in two clients", &clients)] {
        let what = format!("16 tasks that hold 10 ms each, {what}");
        table.judge(&what, queue(clients).await, "ms", Bar::AtMost(185.0));
    }
}

/// Returns the time of a round trip. After a pause, as before a hand-off, every thread involved has
/// to be woken first.
async fn round_trip(url: &str, pause: Option<Duration>) -> f64 {
    let raw = Raw::connect(url).await;
    let mut trips = Vec::new();
    for _ in 0..ROUNDS {
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
        let start = Instant::now();
        raw.call("PING", &[]).await;
        trips.push(to_micros(start.elapsed()));
    }
    median(trips)
}
