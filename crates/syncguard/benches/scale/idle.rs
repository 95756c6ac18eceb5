//! A waiter on SQLite, which polls.

use std::time::{Duration, Instant};

use syncguard::{LockManager, connect};
use syncguard_testkit::bench::{Bar, Table};
use tokio::time::sleep;

use crate::{Options, process::cpu_time};

/// Longer than the measurement.
const LONG: Duration = Duration::from_secs(3_600);

/// How long the waiter has waited when the measurement begins.
const SETTLE: Duration = Duration::from_secs(5);

pub(crate) async fn measure(options: &Options, table: &mut Table) {
    let seconds = Duration::from_secs(options.of("seconds", 60).into());
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", directory.path().join("locks.db").display());
    let holder = LockManager::new(connect(&url).await.unwrap());
    let _held = holder.lock("k").ttl(LONG).acquire().await.unwrap();
    let waiter = LockManager::new(connect(&url).await.unwrap());
    let waiting = tokio::spawn(waiter.lock("k").wait(LONG).acquire());
    sleep(SETTLE).await;
    let (start, cpu) = (Instant::now(), cpu_time());
    sleep(seconds).await;
    let used = (cpu_time() - cpu).as_secs_f64() / start.elapsed().as_secs_f64();
    waiting.abort();

    let what = "SQLite: one waiter, and a holder that does nothing: processor";
    table.judge(what, used * 100.0, "% of a core", Bar::AtMost(0.1));
    table.recorded("0.9");
}
