use std::{
    env::current_exe,
    process::Stdio,
    str::FromStr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use syncguard::{LockManager, connect};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, stdin, stdout},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinSet,
    time::sleep,
};

const KEY: &str = "bench:fairness";

/// What a process does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    pub(crate) tasks: usize,
    pub(crate) hold: Duration,
    pub(crate) time: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Did {
    pub(crate) grants: f64,
    pub(crate) failed: f64,
    pub(crate) longest_wait_ms: f64,
}

impl Did {
    pub(crate) fn rate(self, time: Duration) -> f64 {
        self.grants / time.as_secs_f64()
    }
}

/// A process that contends for the lock.
pub(crate) struct Member {
    _process: Child,
    orders: ChildStdin,
    news: Lines<BufReader<ChildStdout>>,
}

impl Member {
    /// Starts a process, and returns when it is connected.
    pub(crate) async fn start(url: &str, task: Task) -> Self {
        let mut process = Command::new(current_exe().unwrap());
        process.args(["member", url, &task.to_string()]);
        process.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = process.spawn().unwrap();
        let orders = process.stdin.take().unwrap();
        let mut news = BufReader::new(process.stdout.take().unwrap()).lines();
        assert_eq!(news.next_line().await.unwrap().unwrap(), "connected");
        Self { _process: process, orders, news }
    }

    pub(crate) async fn begin(&mut self) {
        self.orders.write_all(b"begin\n").await.unwrap();
    }

    pub(crate) async fn finish(mut self) -> Did {
        self.news.next_line().await.unwrap().unwrap().parse().unwrap()
    }
}

/// The other side of a [`Member`].
pub(crate) async fn be(url: &str, task: Task) {
    let locks = LockManager::new(connect(url).await.unwrap());
    say("connected").await;
    BufReader::new(stdin()).lines().next_line().await.unwrap().unwrap();
    let (did, mut all) = (Arc::new(Mutex::new(Did::default())), JoinSet::new());
    let end = Instant::now() + task.time;
    for _ in 0..task.tasks {
        let (locks, did) = (locks.clone(), did.clone());
        all.spawn(async move {
            while Instant::now() < end {
                contend(&locks, task.hold, &did).await;
            }
        });
    }
    all.join_all().await;
    let did = *did.lock().unwrap();
    say(&format!("{} {} {}", did.grants, did.failed, did.longest_wait_ms)).await;
}

async fn contend(locks: &LockManager, hold: Duration, did: &Mutex<Did>) {
    let asked = Instant::now();
    let granted = locks.lock(KEY).acquire().await;
    let waited = asked.elapsed().as_secs_f64() * 1e3;
    let guard = {
        let mut did = did.lock().unwrap();
        did.longest_wait_ms = did.longest_wait_ms.max(waited);
        match granted {
            Ok(guard) => {
                did.grants += 1.0;
                guard
            }
            Err(_) => {
                did.failed += 1.0;
                return;
            }
        }
    };
    if !hold.is_zero() {
        sleep(hold).await;
    }
    let _ = guard.release().await.unwrap();
}

async fn say(line: &str) {
    stdout().write_all(format!("{line}\n").as_bytes()).await.unwrap();
    stdout().flush().await.unwrap();
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.tasks, self.hold.as_millis(), self.time.as_millis())
    }
}

impl FromStr for Task {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut numbers = text.split(' ').map(str::parse);
        let mut next = || numbers.next().unwrap_or(Ok(0));
        let tasks = usize::try_from(next()?).unwrap_or(usize::MAX);
        let (hold, time) = (Duration::from_millis(next()?), Duration::from_millis(next()?));
        Ok(Self { tasks, hold, time })
    }
}

impl FromStr for Did {
    type Err = std::num::ParseFloatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut numbers = text.split(' ').map(str::parse);
        let mut next = || numbers.next().unwrap_or(Ok(0.0));
        Ok(Self { grants: next()?, failed: next()?, longest_wait_ms: next()? })
    }
}
