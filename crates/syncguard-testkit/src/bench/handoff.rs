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

const HANDOFFS: usize = 200;
const KEY: &str = "bench:handoff:000000";
const TTL: Duration = Duration::from_secs(30);

/// How long before the release a waiter in another process has to request the lock, be refused and
/// start to wait.
pub const SETTLE: Duration = Duration::from_millis(15);

/// Returns the times, in microseconds, from the call of a release until a waiter in another process
/// holds the lock.
///
/// That process is another instance of this program, with the arguments `waiter` and `url`; it must
/// call [`run_waiter`].
pub async fn handoffs(locks: &LockManager, url: &str) -> Vec<f64> {
    let mut waiter = Waiter::start(url);
    let mut handoffs = Vec::new();
    for _ in 0..HANDOFFS {
        let guard = locks.lock(KEY).ttl(TTL).wait(TTL).acquire().await.unwrap();
        waiter.begin().await;
        sleep(SETTLE).await;
        let called = BootClock.now().since_boot();
        guard.release().await.unwrap();
        handoffs.push(to_micros(waiter.acquired().await.saturating_sub(called)));
    }
    handoffs
}

/// Returns how long it takes sixteen tasks to hold one lock for 10 ms each, in milliseconds. The
/// tasks are distributed over the clients.
pub async fn queue(clients: &[LockManager]) -> f64 {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..16 {
        let locks = clients[task % clients.len()].clone();
        tasks.spawn(async move {
            let work = async |_| hold().await;
            locks.lock("bench:queue:00000000").wait(TTL).run(work).await.unwrap();
        });
    }
    tasks.join_all().await;
    start.elapsed().as_secs_f64() * 1e3
}

/// Waits for 10 ms. A timer of the runtime would take at least 11 ms.
pub async fn hold() {
    spawn_blocking(|| thread::sleep(Duration::from_millis(10))).await.unwrap();
}

/// Another process that waits for the lock on command.
struct Waiter {
    _process: Child,
    commands: ChildStdin,
    replies: Lines<BufReader<ChildStdout>>,
}

impl Waiter {
    fn start(url: &str) -> Self {
        let mut process = Command::new(current_exe().unwrap());
        process.args(["waiter", url]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = process.kill_on_drop(true).spawn().unwrap();
        let commands = process.stdin.take().unwrap();
        let replies = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { _process: process, commands, replies }
    }

    async fn begin(&mut self) {
        self.commands.write_all(b"\n").await.unwrap();
    }

    /// Returns the time since boot at which the waiter acquired the lock. All processes of a host
    /// share this clock.
    async fn acquired(&mut self) -> Duration {
        let nanos = self.replies.next_line().await.unwrap().unwrap();
        Duration::from_nanos(nanos.parse().unwrap())
    }
}

/// The waiter of [`handoffs`].
pub async fn run_waiter(locks: LockManager) {
    let mut commands = BufReader::new(stdin()).lines();
    while commands.next_line().await.unwrap().is_some() {
        let guard = locks.lock(KEY).ttl(TTL).wait(TTL).acquire().await.unwrap();
        let acquired = BootClock.now().since_boot().as_nanos();
        guard.release().await.unwrap();
        stdout().write_all(format!("{acquired}\n").as_bytes()).await.unwrap();
        stdout().flush().await.unwrap();
    }
}
