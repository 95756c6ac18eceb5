use std::time::{Duration, Instant};

use syncguard_core::{LockBackend, LockId};
use syncguard_tests::{
    asking::{LONG, ask, granted, lock_of},
    bench::{Bar, Table, median, to_micros},
    proxy::Proxy,
    server::RedisServer,
};
use tokio::task::JoinSet;

use crate::{
    connect,
    raw::{Raw, Style},
};

/// How long each way takes.
const DELAY: Duration = Duration::from_millis(2);

const ACQUIRES: usize = 100;

/// How long one acquire takes at a server far away, by how many tasks, each with a key of its own. One
/// by hand on an idle connection is the floor: a bare client cannot be faster than a round trip.
pub(crate) async fn measure(server: &RedisServer, table: &mut Table) {
    let proxy = Proxy::start(server.address()).await.unwrap();
    let url = server.url_through(proxy.address());
    let (backend, raw) = (connect(&url).await, Raw::connect(&url).await);
    proxy.delay(DELAY);
    let pair = raw.pair(Style::Lean).await;
    let mut trips = Vec::new();
    for _ in 0..ACQUIRES {
        let start = Instant::now();
        raw.acquire_and_release(&pair, "bench:far", LockId::mint().unwrap().as_str()).await;
        trips.push(to_micros(start.elapsed()) / 2.0);
    }
    let floor = median(trips);
    table.note("acquire at 2 ms each way, one task, by hand, p50", floor, "µs");
    for tasks in [1, 4, 16, 64] {
        let mut acquires = JoinSet::new();
        for task in 0..tasks {
            let backend = backend.clone();
            acquires.spawn(async move {
                let mut trips = Vec::new();
                for _ in 0..ACQUIRES {
                    let request = ask(&format!("bench:far:{task}"), LONG);
                    let start = Instant::now();
                    granted(&backend, &request).await;
                    trips.push(to_micros(start.elapsed()));
                    backend.release(&lock_of(&request)).await.unwrap();
                }
                trips
            });
        }
        let trips = acquires.join_all().await.into_iter().flatten().collect();
        let (trip, what) = (median(trips), format!("acquire at 2 ms each way, {tasks} tasks, p50"));
        table.note(&what, trip, "µs");
        table.judge("  … beside one by hand", trip / floor, "×", Bar::AtMost(1.15));
    }
}
