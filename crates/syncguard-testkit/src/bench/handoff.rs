use std::{
    env::current_exe,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use syncguard_core::{BootClock, Clock, LockManager};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, stdin, stdout},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::{JoinSet, spawn_blocking},
    time::sleep,
};

use super::to_micros;

const ROUNDS: usize = 200;
const KEY: &str = "bench:handoff:000000";
const TTL: Duration = Duration::from_secs(30);

/// How long a waiter in another process has to ask, to be refused and to wait, before the release.
pub const SETTLE: Duration = Duration::from_millis(15);

/// Gives the times, in microseconds, from calls of a release to entries of a waiter in another
/// process.
///
/// That process is this program again, with the arguments `waiter` and `url`; it must then call
/// [`wait_as_told`].
pub async fn handoffs(locks: &LockManager, url: &str) -> Vec<f64> {
    let mut waiter = Waiter::start(url);
    let mut handoffs = Vec::new();
    for _ in 0..ROUNDS {
        let guard = locks.lock(KEY).ttl(TTL).wait(TTL).acquire().await.unwrap();
        waiter.begin().await;
        sleep(SETTLE).await;
        let called = BootClock.now().since_boot();
        guard.release().await.unwrap();
        handoffs.push(to_micros(waiter.entered().await.saturating_sub(called)));
    }
    handoffs
}

/// Gives the time, in milliseconds, in which sixteen tasks have held one lock for 10 ms each. They
/// are shared out among the clients.
pub async fn queue(clients: &[LockManager]) -> f64 {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..16 {
        let locks = clients[task % clients.len()].clone();
        tasks.spawn(async move {
            let hold = async |_| spawn_blocking(hold_still).await.unwrap();
            locks.lock("bench:queue:00000000").wait(TTL).run(hold).await.unwrap();
        });
    }
    tasks.join_all().await;
    start.elapsed().as_secs_f64() * 1e3
}

/// Holds for 10 ms. The runtime's timer would make it eleven and more.
fn hold_still() {
    thread::sleep(Duration::from_millis(10));
}

/// Another process that waits for the lock when told to.
struct Waiter {
    _process: Child,
    orders: ChildStdin,
    news: Lines<BufReader<ChildStdout>>,
}

impl Waiter {
    fn start(url: &str) -> Self {
        let mut process = Command::new(current_exe().unwrap());
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

/// The other side of [`handoffs`].
pub async fn wait_as_told(locks: LockManager) {
    let mut orders = BufReader::new(stdin()).lines();
    while orders.next_line().await.unwrap().is_some() {
        let guard = locks.lock(KEY).ttl(TTL).wait(TTL).acquire().await.unwrap();
        let entered = BootClock.now().since_boot().as_nanos();
        guard.release().await.unwrap();
        stdout().write_all(format!("{entered}\n").as_bytes()).await.unwrap();
        stdout().flush().await.unwrap();
    }
}
