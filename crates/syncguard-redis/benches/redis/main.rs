//! What the backend costs, beside the floor: the driver that calls the same scripts by hand.
//!
//! Run by `cargo bench -p syncguard-redis`, or with `-- name` for a part: `speed`, `layer`, `handoff`,
//! `distance`, `peers` or `growth`; starts a server of its own. Each line shows a bar and
//! whether it is met. The numbers of a shared machine swing, so what is compared runs side by side, in
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
    // One thread for the clients and one for the server: more of them stand in each other's way.
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
    config.unsafe_settings(UnsafeSettings::Ignore).connect().await.unwrap()
}
