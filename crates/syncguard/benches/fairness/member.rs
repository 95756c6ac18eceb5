use std::{
    env::current_exe,
    process::Stdio,
    str::FromStr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use syncguard::{LockBuilder, LockManager, connect};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, stdin, stdout},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinSet,
    time::sleep,
};

pub(crate) const KEY: &str = "bench:members";

/// What a process does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    pub(crate) tasks: usize,
    pub(crate) hold: Duration,
    pub(crate) time: Duration,
    pub(crate) lock: Lock,
    /// How long each task pauses between two locks.
    pub(crate) pause: Duration,
}

/// What each task of a process locks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Lock {
    /// The one key of all.
    #[default]
    Exclusive,
    /// A key of its own.
    OwnKey,
    /// The one key of all, as a reader.
    Shared,
    /// A permit of the one key of all.
    Permit(u32),
}

impl Task {
    /// Tasks that lock one key in turn for all of `time`.
    pub(crate) fn new(tasks: usize, hold: Duration, time: Duration) -> Self {
        Self { tasks, hold, time, lock: Lock::Exclusive, pause: Duration::ZERO }
    }
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

/// Lets processes work beside each other, from when all of them are connected, for the longest time
/// of theirs.
pub(crate) async fn together(url: &str, tasks: impl IntoIterator<Item = Task>) -> Vec<Did> {
    let tasks: Vec<Task> = tasks.into_iter().collect();
    let time = tasks.iter().map(|task| task.time).max().unwrap_or_default();
    let crowd = Crowd::start(url, tasks).await;
    sleep(time).await;
    crowd.end().await
}

/// Processes that work beside each other.
pub(crate) struct Crowd(Vec<Member>);

impl Crowd {
    /// Starts the processes, which begin once all of them are connected.
    pub(crate) async fn start(url: &str, tasks: impl IntoIterator<Item = Task>) -> Self {
        let mut members = Vec::new();
        for task in tasks {
            members.push(Member::start(url, task).await);
        }
        for member in &mut members {
            member.order("begin").await;
        }
        Self(members)
    }

    /// Ends the work, after each process has released what it holds.
    pub(crate) async fn end(mut self) -> Vec<Did> {
        for member in &mut self.0 {
            member.order("end").await;
        }
        let mut did = Vec::new();
        for member in self.0 {
            did.push(member.finish().await);
        }
        did
    }
}

/// A process that contends for the lock.
struct Member {
    _process: Child,
    orders: ChildStdin,
    news: Lines<BufReader<ChildStdout>>,
}

impl Member {
    /// Starts a process, and returns when it is connected.
    async fn start(url: &str, task: Task) -> Self {
        let mut process = Command::new(current_exe().unwrap());
        process.args(["member", url, &task.to_string()]);
        process.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = process.spawn().unwrap();
        let orders = process.stdin.take().unwrap();
        let mut news = BufReader::new(process.stdout.take().unwrap()).lines();
        assert_eq!(news.next_line().await.unwrap().unwrap(), "connected");
        Self { _process: process, orders, news }
    }

    async fn order(&mut self, order: &str) {
        self.orders.write_all(format!("{order}\n").as_bytes()).await.unwrap();
    }

    async fn finish(mut self) -> Did {
        self.news.next_line().await.unwrap().unwrap().parse().unwrap()
    }
}

/// The other side of a [`Member`].
pub(crate) async fn be(url: &str, task: Task) {
    let locks = LockManager::new(connect(url).await.unwrap());
    say("connected").await;
    let mut orders = BufReader::new(stdin()).lines();
    orders.next_line().await.unwrap().unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    tokio::spawn({
        let ended = ended.clone();
        async move {
            let _order = orders.next_line().await;
            ended.store(true, Ordering::Relaxed);
        }
    });
    let (did, mut all) = (Arc::new(Mutex::new(Did::default())), JoinSet::new());
    for number in 0..task.tasks {
        let (locks, did, ended) = (locks.clone(), did.clone(), ended.clone());
        all.spawn(async move {
            while !ended.load(Ordering::Relaxed) {
                let lock = match task.lock {
                    Lock::Exclusive => locks.lock(KEY),
                    Lock::OwnKey => locks.lock(format!("{KEY}:{}:{number}", std::process::id())),
                    Lock::Shared => locks.lock(KEY).shared(),
                    Lock::Permit(permits) => locks.semaphore(KEY, permits),
                };
                contend(lock, task.hold, &did).await;
                if !task.pause.is_zero() {
                    sleep(task.pause).await;
                }
            }
        });
    }
    all.join_all().await;
    let did = *did.lock().unwrap();
    say(&format!("{} {} {}", did.grants, did.failed, did.longest_wait_ms)).await;
}

async fn contend(lock: LockBuilder, hold: Duration, did: &Mutex<Did>) {
    let asked = Instant::now();
    let granted = lock.acquire().await;
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
        // The runtime's timer would hold for a millisecond longer.
        tokio::task::spawn_blocking(move || std::thread::sleep(hold)).await.unwrap();
    }
    let _ = guard.release().await.unwrap();
}

async fn say(line: &str) {
    stdout().write_all(format!("{line}\n").as_bytes()).await.unwrap();
    stdout().flush().await.unwrap();
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (lock, permits) = match self.lock {
            Lock::Exclusive => (0, 0),
            Lock::OwnKey => (1, 0),
            Lock::Shared => (2, 0),
            Lock::Permit(permits) => (3, permits),
        };
        let [hold, time, pause] = [self.hold, self.time, self.pause].map(|time| time.as_millis());
        write!(f, "{} {hold} {time} {pause} {lock} {permits}", self.tasks)
    }
}

impl FromStr for Task {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut numbers = text.split(' ').map(str::parse);
        let mut next = || numbers.next().unwrap_or(Ok(0));
        let tasks = usize::try_from(next()?).unwrap_or(usize::MAX);
        let (hold, time) = (Duration::from_millis(next()?), Duration::from_millis(next()?));
        let pause = Duration::from_millis(next()?);
        let lock = match (next()?, next()?) {
            (0, _) => Lock::Exclusive,
            (1, _) => Lock::OwnKey,
            (2, _) => Lock::Shared,
            (_, permits) => Lock::Permit(u32::try_from(permits).unwrap_or(u32::MAX)),
        };
        Ok(Self { tasks, hold, time, lock, pause })
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
