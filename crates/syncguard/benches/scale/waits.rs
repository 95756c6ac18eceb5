//! Waiters for different keys, all of which are held, on Redis.

use std::time::{Duration, Instant};

use syncguard::{
    LockGuard, LockManager, Operation,
    redis::{RedisBackend, RedisConfig},
};
use syncguard_testkit::{
    bench::{Bar, Table, median, to_micros},
    server::RedisServer,
};
use tokio::{sync::mpsc, time::sleep};

use crate::{
    Options,
    commands::script_calls,
    counted::Counted,
    process::{cpu_time, resident},
};

/// Longer than the measurement.
const LONG: Duration = Duration::from_secs(3_600);

/// How long the waiters have waited when the measurement begins.
const SETTLE: Duration = Duration::from_secs(20);

/// How many locks are released.
const RELEASES: usize = 1_000;

pub(crate) async fn measure(options: &Options, table: &mut Table) {
    let (count, seconds) = (options.of("waits", 10_000), options.of("seconds", 60));
    let server = RedisServer::builder().setting("save", "").start().await.unwrap();
    let url = server.url();
    let connect = async || RedisBackend::connect(RedisConfig::from_url(&url).unwrap()).await;
    let holders = LockManager::new(connect().await.unwrap());
    let mut held = Vec::new();
    for number in 0..count {
        held.push(holders.lock(format!("k{number}")).ttl(LONG).acquire().await.unwrap());
    }

    let store = Counted::new(connect().await.unwrap());
    let locks = LockManager::new(store.clone());
    let (granted, mut grants) = mpsc::unbounded_channel();
    let memory = resident();
    for number in 0..count {
        let (lock, granted) = (locks.lock(format!("k{number}")).wait(LONG), granted.clone());
        tokio::spawn(async move {
            let guard = lock.acquire().await;
            let _ = granted.send((Instant::now(), guard));
        });
    }
    sleep(SETTLE).await;
    let memory = (resident() - memory) / f64::from(count) / 1e3;

    let before = (Instant::now(), cpu_time(), script_calls(&url));
    sleep(Duration::from_secs(seconds.into())).await;
    let time = before.0.elapsed().as_secs_f64();
    let used = (cpu_time() - before.1).as_secs_f64() / time;
    let calls = (script_calls(&url) - before.2) / time;
    let attempts = store.by_second(Operation::Acquire);
    let attempts: u32 = attempts.iter().rev().take(seconds.try_into().unwrap()).sum();

    let cpu = cpu_time();
    let mut handoffs = Vec::new();
    for guard in held.drain(..).take(RELEASES) {
        handoffs.push(hand_off(guard, &mut grants).await);
    }
    let each = to_micros(cpu_time() - cpu) / handoffs.len() as f64;

    let what = format!("{count} keys waited for");
    table.note(&format!("{what}: attempts"), f64::from(attempts) / f64::from(seconds), "/s");
    table.judge(&format!("{what}: calls of the server"), calls, "/s", Bar::AtMost(300.0));
    table.recorded("6,600");
    table.note(&format!("{what}: processor"), used, "cores");
    table.judge(&format!("{what}: a waiter"), memory, "kB", Bar::AtMost(10.0));
    table.recorded("20 to 50");
    table.note(&format!("{what}: a hand-over, median"), median(handoffs), "µs");
    table.note(&format!("{what}: a hand-over, processor"), each, "µs");
}

type Grant = (Instant, Result<LockGuard, syncguard::Error>);

/// Releases a lock, and returns after how many microseconds the waiter has it.
async fn hand_off(guard: LockGuard, grants: &mut mpsc::UnboundedReceiver<Grant>) -> f64 {
    let released = Instant::now();
    let _ = guard.release().await.unwrap();
    let (at, granted) = grants.recv().await.unwrap();
    granted.unwrap().keep();
    to_micros(at - released)
}
