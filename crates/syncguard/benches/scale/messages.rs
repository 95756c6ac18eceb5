//! Messages that arrive for waiters for different keys, on Redis.

use std::{env::current_exe, process::Stdio, time::Duration};

use syncguard::{
    LockManager,
    redis::{RedisBackend, RedisConfig},
};
use syncguard_testkit::{
    bench::{Bar, Table, to_micros},
    server::RedisServer,
};
use tokio::{process::Command, task::JoinHandle, time::sleep};

use crate::{Options, commands::send, process::cpu_time};

/// Longer than the measurement.
const LONG: Duration = Duration::from_secs(3_600);

/// How long the waiters have waited when the measurement begins, and how long after the last message
/// it ends.
const SETTLE: Duration = Duration::from_secs(10);

/// The numbers of keys that are waited for.
const KEYS: [u32; 3] = [10, 10_000, 40_000];

pub(crate) async fn measure(options: &Options, table: &mut Table) {
    let count = options.of("messages", 100_000);
    for keys in KEYS {
        let server = RedisServer::builder().setting("save", "").start().await.unwrap();
        let url = server.url();
        let connect = async || {
            LockManager::new(
                RedisBackend::connect(RedisConfig::from_url(&url).unwrap()).await.unwrap(),
            )
        };
        let (holders, locks) = (connect().await, connect().await);
        let (mut held, mut waiting) = (Vec::new(), Vec::new());
        for number in 0..keys {
            held.push(holders.lock(format!("k{number}")).ttl(LONG).acquire().await.unwrap());
            waiting.push(tokio::spawn(locks.lock(format!("k{number}")).wait(LONG).acquire()));
        }
        sleep(SETTLE).await;

        let start = cpu_time();
        sleep(SETTLE).await;
        let (idle, start) = (cpu_time() - start, cpu_time());
        let [count_text, keys_text] = [count, keys].map(|number| number.to_string());
        let mut publisher = Command::new(current_exe().unwrap());
        publisher.args(["publish", &url, &keys_text, &count_text]).stdin(Stdio::null());
        assert!(publisher.status().await.unwrap().success());
        sleep(SETTLE).await;
        let used = (cpu_time() - start).saturating_sub(idle);
        waiting.iter().for_each(JoinHandle::abort);

        let what = format!("Redis: a message, if {keys} keys are waited for: processor");
        let each = to_micros(used) / f64::from(count);
        table.judge(&what, each, "µs", Bar::AtMost(10.0));
    }
    table.recorded("12 at 10 keys, 152 at 40,000");
}

/// Sends the messages, in a process of its own. They name another waiter than those that receive them,
/// which therefore send nothing.
pub(crate) fn publish(url: &str, keys: &str, count: &str) {
    let [keys, count]: [u32; 2] = [keys, count].map(|number| number.parse().unwrap());
    let message = |number| format!("PUBLISH k{}:released \"another \"", number % keys);
    send(url, (0..count).map(message));
}
