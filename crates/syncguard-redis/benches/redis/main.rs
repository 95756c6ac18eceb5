//! What the backend costs, beside the floor: the driver that calls the same scripts by hand.
//!
//! Run by `cargo bench -p syncguard-redis`; starts a server of its own. Each line shows a bar and
//! whether it is met. The numbers of a shared machine swing, so what is compared runs side by side, in
//! turns, and the median of the comparisons counts.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails panics")]

mod growth;
mod handoff;
mod layer;
mod raw;
mod speed;

use syncguard_core::{SyncGuard, UnsafeSettings};
use syncguard_redis::{RedisBackend, RedisConfig};
use syncguard_tests::{
    bench::{Table, wait_as_told},
    server::RedisServer,
};

fn main() {
    // One thread for the clients and one for the server: more of them stand in each other's way.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.unwrap();
    // Cargo itself passes `--bench`.
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("waiter"), Some(url)) => runtime.block_on(async {
            wait_as_told(SyncGuard::new(connect(&url).await)).await;
        }),
        _ => runtime.block_on(measure_all()),
    }
}

async fn measure_all() {
    let server = RedisServer::builder().setting("save", "").start().await.unwrap();
    let mut table = Table::default();
    speed::measure(&server.url(), &mut table).await;
    layer::measure(&server.url(), &mut table).await;
    handoff::measure(&server.url(), &mut table).await;
    growth::measure(&server, &mut table).await;
    table.print();
}

async fn connect(url: &str) -> RedisBackend {
    let config = RedisConfig::from_url(url).unwrap();
    config.unsafe_settings(UnsafeSettings::Ignore).connect().await.unwrap()
}
