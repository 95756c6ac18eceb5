use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use syncguard_core::SyncGuard;
use tokio::task::spawn_blocking;

use crate::{
    connect,
    table::{Bar, Table, median},
};

/// How often the tasks queue up.
const ROUNDS: usize = 7;

const TASKS: usize = 16;
const WAIT: Duration = Duration::from_secs(30);

/// Sixteen tasks that hold one lock for 10 ms each: the holds alone take 160 ms.
pub(crate) async fn measure(server: SocketAddr, table: &mut Table) {
    for (what, clients) in [("one client", 1), ("two clients", 2), ("sixteen clients", 16)] {
        let clients: Vec<_> = (0..clients).map(|_| SyncGuard::new(connect(server))).collect();
        let mut took = Vec::new();
        for _ in 0..ROUNDS {
            took.push(queue(&clients).await);
        }
        let slowest = took.iter().copied().fold(0.0, f64::max);
        let what = format!("16 tasks that hold 10 ms each, in {what}");
        table.judge(&format!("{what}, p50"), median(took), "ms", Bar::AtMost(400.0));
        table.judge(&format!("{what}, slowest"), slowest, "ms", Bar::AtMost(400.0));
    }
}

async fn queue(clients: &[SyncGuard]) -> f64 {
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let locks = clients[task % clients.len()].clone();
        tasks.spawn(async move {
            let hold = async |_| spawn_blocking(hold_still).await.unwrap();
            locks.lock("bench:queue:00000000").wait(WAIT).run(hold).await.unwrap();
        });
    }
    tasks.join_all().await;
    start.elapsed().as_secs_f64() * 1e3
}

/// Holds for 10 ms. The runtime's timer would make it eleven and more.
fn hold_still() {
    std::thread::sleep(Duration::from_millis(10));
}
