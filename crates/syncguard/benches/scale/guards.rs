//! Guards that are renewed.

use std::time::{Duration, Instant};

use syncguard::{LockManager, Operation, Renew, memory::MemoryBackend};
use syncguard_testkit::bench::{Bar, Table};
use tokio::time::sleep;

use crate::{
    Options,
    counted::Counted,
    process::{cpu_time, resident},
};

const TTL: Duration = Duration::from_secs(30);

pub(crate) async fn measure(options: &Options, table: &mut Table) {
    let (count, seconds) = (options.of("guards", 100_000), options.of("seconds", 60));
    let store = Counted::new(MemoryBackend::new());
    let locks = LockManager::new(store.clone());
    let (memory, mut guards) = (resident(), Vec::new());
    for number in 0..count {
        let lock = locks.lock(format!("k{number}")).ttl(TTL).renew(Renew::Auto);
        guards.push(lock.acquire().await.unwrap());
    }
    let (start, cpu) = (Instant::now(), cpu_time());
    sleep(Duration::from_secs(seconds.into())).await;
    let used = (cpu_time() - cpu).as_secs_f64() / start.elapsed().as_secs_f64();
    let memory = (resident() - memory) / f64::from(count) / 1e3;
    let renewals = store.by_second(Operation::Extend);
    let max = f64::from(renewals.iter().copied().max().unwrap_or_default());
    let mean = f64::from(renewals.iter().sum::<u32>()) / f64::from(seconds);
    assert!(guards.iter().all(|guard| guard.is_valid()), "locks were lost");

    let what = format!("{count} guards with a ttl of 30 s");
    table.judge(&format!("{what}: processor"), used, "cores", Bar::AtMost(0.1));
    table.recorded("0.2 to 0.46, without the renewals");
    table.note(&format!("{what}: renewals"), mean, "/s");
    let worst = format!("{what}: the second with most renewals");
    table.judge(&worst, max / mean, "x mean", Bar::AtMost(2.0));
    table.recorded("10: all within 0.8 s of 10");
    table.note(&format!("{what}: a guard"), memory, "kB");
}
