//! The cost of the backend, compared with the same statements by pgbench and by the driver alone.
//!
//! Run with `cargo bench -p syncguard-postgres`. It starts its own server, and needs pgbench. Each
//! line shows a bar and whether it is met. The numbers of a shared machine vary, so the compared
//! variants run in turns. To run one part, pass its name after `--`: `speed`, `throughput`,
//! `handoff`, or `waiters`, which consists of `convoys` and `beside`.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails panics")]

mod beside;
#[expect(dead_code, reason = "only the columns of the backend's own tables are measured")]
#[path = "../../src/columns.rs"]
mod columns;
mod handoff;
mod pgbench;
mod raw;
mod speed;
mod throughput;

use syncguard_core::{LockManager, UnsafeSettings};
use syncguard_postgres::{PostgresBackend, PostgresConfig};
use syncguard_testkit::{
    bench::{Table, pin_to_separate_cpus, run_waiter},
    server::PostgresServer,
};

fn main() {
    // The clients use one processor, and the server uses the others.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.unwrap();
    // Cargo itself passes `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("waiter"), Some(url)) => runtime.block_on(async {
            run_waiter(LockManager::new(connect(&url, 4).await)).await;
        }),
        (Some(part @ ("waiters" | "convoys" | "beside")), _) => {
            runtime.block_on(measure_waiters(part));
        }
        (part, _) => runtime.block_on(measure(part)),
    }
}

/// Measures all parts, or one.
async fn measure(part: Option<&str>) {
    let server = PostgresServer::builder().setting("shared_buffers", "256MB");
    let server = server.start().await.unwrap();
    pin_to_separate_cpus(server.pid().unwrap());
    let mut table = Table::default();
    let is_wanted = |name| part.is_none_or(|part| part == name);
    if is_wanted("speed") {
        speed::measure(&server, &mut table).await;
    }
    if is_wanted("throughput") {
        throughput::measure(&server.url(), &mut table).await;
    }
    if is_wanted("handoff") {
        handoff::measure(&server.url(), &mut table).await;
    }
    if part.is_none() {
        beside::measure(&server.url(), &mut table).await;
    }
    table.print();
}

/// Measures only the waiters, which share their processors with the server.
async fn measure_waiters(part: &str) {
    let server = PostgresServer::start().await.unwrap();
    let mut table = Table::default();
    if part != "beside" {
        handoff::convoys(&server.url(), &mut table).await;
    }
    if part != "convoys" {
        beside::measure(&server.url(), &mut table).await;
    }
    table.print();
}

async fn connect(url: &str, connections: u32) -> PostgresBackend {
    let config = PostgresConfig::from_url(url).unwrap().max_connections(connections);
    PostgresBackend::connect(config.unsafe_settings(UnsafeSettings::Ignore)).await.unwrap()
}
