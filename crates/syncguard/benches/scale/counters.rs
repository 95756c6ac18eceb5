//! Fence counters of keys that were used once, and are retired, on Redis.

use std::time::{Duration, Instant, SystemTime};

use syncguard::{
    LockManager,
    redis::{RedisBackend, RedisConfig},
};
use syncguard_testkit::{
    bench::{Bar, Table},
    server::RedisServer,
};

use crate::{
    Options,
    commands::{send, used_memory},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) async fn measure(options: &Options, table: &mut Table) {
    let count = options.of("counters", 10_000_000);
    let server = RedisServer::builder().setting("save", "").start().await.unwrap();
    let url = server.url();
    let config = RedisConfig::from_url(&url).unwrap().seed_new_counters();
    let locks = LockManager::new(RedisBackend::connect(config).await.unwrap());

    let empty = used_memory(&url);
    // As grants of two days ago have left them.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let then = (now - 2 * DAY).as_millis();
    let counter = |number| format!("SET syncguard:fence:syncguard:payment:{number} {then}");
    send(&url, (0..count).map(counter));
    let full = used_memory(&url) - empty;

    let start = Instant::now();
    assert_eq!(locks.retire_counters(DAY).await.unwrap(), u64::from(count));
    let (time, left) = (start.elapsed().as_secs_f64(), used_memory(&url) - empty);

    let what = format!("Redis: {count} counters of keys used once");
    table.note(&format!("{what}: memory"), full / f64::from(count), "B each");
    table.judge(&format!("{what}: left once retired"), left / full * 100.0, "%", Bar::AtMost(1.0));
    table.recorded("100: a counter stays for ever");
    table.note(&format!("{what}: to retire them"), time, "s");
}
