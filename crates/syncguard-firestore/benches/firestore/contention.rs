use std::net::SocketAddr;

use syncguard_core::LockManager;
use syncguard_testkit::bench::{Bar, Table, median, queue};

use crate::connect;

/// The number of runs of the tasks.
const RUNS: usize = 7;

/// Measures sixteen tasks that hold one lock for 10 ms each: the holds alone take 160 ms.
pub(crate) async fn measure(server: SocketAddr, table: &mut Table) {
    for (what, clients) in [("one client", 1), ("two clients", 2), ("sixteen clients", 16)] {
        let clients: Vec<_> = (0..clients).map(|_| LockManager::new(connect(server))).collect();
        let mut took = Vec::new();
        for _ in 0..RUNS {
            took.push(queue(&clients).await);
        }
        let slowest = took.iter().copied().fold(0.0, f64::max);
        let what = format!("16 tasks that hold 10 ms each, in {what}");
        table.judge(&format!("{what}, p50"), median(took), "ms", Bar::AtMost(400.0));
        table.judge(&format!("{what}, slowest"), slowest, "ms", Bar::AtMost(400.0));
    }
}
