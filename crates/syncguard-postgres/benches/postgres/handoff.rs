use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use syncguard_core::{BootClock, Clock, SyncGuard};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, stdin, stdout},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::spawn_blocking,
};

use crate::{
    connect,
    table::{Bar, Table, median},
};

const ROUNDS: usize = 200;
const KEY: &str = "bench:handoff:000000";
const TTL: Duration = Duration::from_secs(30);

/// Long enough for the other process to ask, to be refused and to wait.
const SETTLE: Duration = Duration::from_millis(15);

pub(crate) async fn measure(url: &str, table: &mut Table) {
    let mut waiter = Waiter::start(url);
    let locks = SyncGuard::new(connect(url, 4).await);
    let mut handoffs = Vec::new();
    for _ in 0..ROUNDS {
        let guard = locks.lock(KEY).ttl(TTL).wait(TTL).acquire().await.unwrap();
        waiter.begin().await;
        tokio::time::sleep(SETTLE).await;
        let called = BootClock.now().since_boot();
        guard.release().await.unwrap();
        handoffs.push(to_micros(waiter.entered().await.saturating_sub(called)));
    }
    let mean = handoffs.iter().sum::<f64>() / handoffs.len() as f64;
    let p50 = median(handoffs);
    table.judge("release to entry in another process, mean", mean, "µs", Bar::AtMost(2_000.0));
    table.note("release to entry in another process, p50", p50, "µs");
    drop(waiter);
    queue(url, table).await;
}

fn to_micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// Holds for 10 ms. The runtime's timer would make it eleven and more.
fn hold_still() {
    std::thread::sleep(Duration::from_millis(10));
}

/// Sixteen tasks that hold one lock for 10 ms each.
async fn queue(url: &str, table: &mut Table) {
    let clients = [SyncGuard::new(connect(url, 4).await), SyncGuard::new(connect(url, 4).await)];
    for (what, processes) in [("in one client", 1), ("in two clients", 2)] {
        let start = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..16 {
            let locks = clients[task % processes].clone();
            tasks.spawn(async move {
                let hold = async |_| spawn_blocking(hold_still).await.unwrap();
                locks.lock("bench:queue:00000000").wait(TTL).run(hold).await.unwrap();
            });
        }
        tasks.join_all().await;
        let took = start.elapsed().as_secs_f64() * 1e3;
        let what = format!("16 tasks that hold 10 ms each, {what}");
        table.judge(&what, took, "ms", Bar::AtMost(200.0));
    }
}

/// Another process that waits for the lock when told to.
struct Waiter {
    _process: Child,
    orders: ChildStdin,
    news: Lines<BufReader<ChildStdout>>,
}

impl Waiter {
    fn start(url: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap());
        process.args(["waiter", url]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = process.kill_on_drop(true).spawn().unwrap();
        let orders = process.stdin.take().unwrap();
        let news = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { _process: process, orders, news }
    }

    async fn begin(&mut self) {
        self.orders.write_all(b"\n").await.unwrap();
    }

    /// Gives the time since boot at which it entered. All processes of a machine have one clock.
    async fn entered(&mut self) -> Duration {
        let nanos = self.news.next_line().await.unwrap().unwrap();
        Duration::from_nanos(nanos.parse().unwrap())
    }
}

/// The other side of [`Waiter`].
pub(crate) async fn wait_as_told(url: &str) {
    let locks = SyncGuard::new(connect(url, 4).await);
    let mut orders = BufReader::new(stdin()).lines();
    while orders.next_line().await.unwrap().is_some() {
        let guard = locks.lock(KEY).ttl(TTL).wait(TTL).acquire().await.unwrap();
        let entered = BootClock.now().since_boot().as_nanos();
        guard.release().await.unwrap();
        stdout().write_all(format!("{entered}\n").as_bytes()).await.unwrap();
        stdout().flush().await.unwrap();
    }
}
