//! What the backend costs, beside the same statements by the driver alone, and beside a conventional
//! transaction.
//!
//! Run by `cargo bench -p syncguard-mysql`; starts a server of its own. Each line shows a bar and
//! whether it is met. The numbers of a shared machine swing, so what is compared runs in turns.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails panics")]

mod raw;
mod speed;
mod throughput;

use syncguard_core::UnsafeSettings;
use syncguard_mysql::{MysqlBackend, MysqlConfig};
use syncguard_testkit::{bench::Table, server::MariadbServer};

fn main() {
    // One thread for the clients and one for the server: more of them stand in each other's way.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(measure_all());
}

async fn measure_all() {
    let server = MariadbServer::builder().setting("innodb-buffer-pool-size", "256M");
    let server = server.start().await.unwrap();
    let mut table = Table::default();
    speed::measure(&server, &mut table).await;
    throughput::measure(&server.url(), &mut table).await;
    table.print();
}

async fn connect(url: &str, connections: u32) -> MysqlBackend {
    let config = MysqlConfig::from_url(url).unwrap().max_connections(connections);
    MysqlBackend::connect(config.unsafe_settings(UnsafeSettings::Ignore)).await.unwrap()
}
