//! What the backend costs, beside the floor: the same statements by pgbench, and by the driver alone.
//!
//! Run by `cargo bench -p syncguard-postgres`; starts a server of its own, and needs pgbench. Each line
//! shows a bar and whether it is met. The numbers of a shared machine swing, so what is compared
//! runs in turns.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails panics")]

mod beside;
mod handoff;
mod pgbench;
mod raw;
mod speed;
mod throughput;

use syncguard_core::{SyncGuard, UnsafeSettings};
use syncguard_postgres::{PostgresBackend, PostgresConfig};
use syncguard_tests::{
    bench::{Table, apart, wait_as_told},
    server::PostgresServer,
};

fn main() {
    // One processor for the clients and the others for the server.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.unwrap();
    // Cargo itself passes `--bench`.
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("waiters"), _) => runtime.block_on(measure_waiters()),
        (Some("waiter"), Some(url)) => runtime.block_on(async {
            wait_as_told(SyncGuard::new(connect(&url, 4).await)).await;
        }),
        _ => runtime.block_on(measure_all()),
    }
}

async fn measure_all() {
    let server = PostgresServer::builder().setting("shared_buffers", "256MB");
    let server = server.start().await.unwrap();
    apart(server.pid().unwrap());
    let mut table = Table::default();
    speed::measure(&server, &mut table).await;
    throughput::measure(&server.url(), &mut table).await;
    handoff::measure(&server.url(), &mut table).await;
    beside::measure(&server.url(), &mut table).await;
    table.print();
}

/// Measures waiters alone: `cargo bench -p syncguard-postgres -- waiters`.
async fn measure_waiters() {
    let server = PostgresServer::start().await.unwrap();
    let mut table = Table::default();
    handoff::convoys(&server.url(), &mut table).await;
    beside::measure(&server.url(), &mut table).await;
    table.print();
}

async fn connect(url: &str, connections: u32) -> PostgresBackend {
    let config = PostgresConfig::from_url(url).unwrap().max_connections(connections);
    config.unsafe_settings(UnsafeSettings::Ignore).connect().await.unwrap()
}
