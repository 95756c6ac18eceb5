//! Measures the cost of the backend relative to the floor: the driver that calls the same scripts
//! by hand.
//!
//! Run it with `cargo bench -p syncguard-redis`, or with `-- name` for a part: `speed`, `layer`,
//! `handoff`, `distance`, `peers` or `growth`. It starts its own server. Each line shows a limit
//! and whether it is met. Times on a shared machine vary, so what is compared runs in alternating
//! turns, and the median of the comparisons counts.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails panics")]

mod bare;
mod distance;
mod growth;
mod handoff;
mod layer;
mod peers;
mod raw;
mod speed;

use syncguard_core::{LockManager, UnsafeSettings};
use syncguard_redis::{RedisBackend, RedisConfig};
use syncguard_testkit::{
    bench::{Table, run_waiter},
    server::RedisServer,
};

fn main() {
    // One thread for the clients and one for the server: more of them would compete for the
    // processor.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.unwrap();
    // Cargo itself passes `--bench`.
    let arguments: Vec<_> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match arguments.as_slice() {
        [waiter, url] if waiter == "waiter" => runtime.block_on(async {
            run_waiter(LockManager::new(connect(url).await)).await;
        }),
        parts => {
            runtime.block_on(measure(|part| parts.is_empty() || parts.iter().any(|p| p == part)))
        }
    }
}

async fn measure(wanted: impl Fn(&str) -> bool) {
    let server = RedisServer::builder().setting("save", "").start().await.unwrap();
    let mut table = Table::default();
    if wanted("speed") {
        speed::measure(&server.url(), &mut table).await;
    }
    if wanted("layer") {
        layer::measure(&server.url(), &mut table).await;
    }
    if wanted("handoff") {
        handoff::measure(&server.url(), &mut table).await;
    }
    if wanted("distance") {
        distance::measure(&server, &mut table).await;
    }
    if wanted("peers") {
        peers::measure(&server.url(), &mut table).await;
    }
    if wanted("growth") {
        growth::measure(&server, &mut table).await;
    }
    table.print();
}

async fn connect(url: &str) -> RedisBackend {
    let config = RedisConfig::from_url(url).unwrap();
    RedisBackend::connect(config.unsafe_settings(UnsafeSettings::Ignore)).await.unwrap()
}
