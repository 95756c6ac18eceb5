//! Clients in two languages that contend for the same locks.

use std::{
    num::NonZeroU32,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use firestore_emulator::{Concurrency, Emulator};
use syncguard_core::{
    Error, ErrorKind, LockGuard, LockManager, ReleaseOutcome, ShutdownOutcome,
    backend::{AcquireOutcome, AcquireRequest, ExtendOutcome, Grant, LockBackend, Mode},
};
use syncguard_firestore::FirestoreBackend;
use syncguard_testkit::{
    node::{Node, stdout_of, unless_skipped},
    operations::{LONG, ask, eventually, is_locked, lock_of, ttl},
};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    connect,
    holds::{Hold, Holds},
    start_as,
};

/// The directory that names the packages of the script: that of the double's tests.
const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../firestore-emulator/tests/node");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/storm.mjs");

const KEYS: [&str; 2] = ["one", "other"];
const TASKS: usize = 8;

/// The kind of the clients in Node.
const THEIRS: &str = "node";

/// The number of grants of each kind at which a storm ends. A busy machine must reach a sixth.
const GRANTS: usize = 30;
/// The maximum duration. An idle machine takes about ten seconds.
const MAX_DURATION: Duration = Duration::from_secs(90);

/// Clients in Node beside tasks of this process.
struct Storm {
    emulator: Emulator,
    holds: Arc<Holds>,
    tasks: JoinSet<()>,
}

impl Storm {
    async fn new(concurrency: Concurrency) -> Self {
        let (emulator, holds) = (start_as(concurrency).await, Arc::new(Holds::new()));
        let storm = Self { emulator, holds, tasks: JoinSet::new() };
        // Installs the packages first, so that this takes no time from the storm.
        storm.run_node(Duration::ZERO).await;
        storm
    }

    /// Runs 8 Node clients until they are told to stop.
    async fn run_node(&self, duration: Duration) {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let node = Node::install(Path::new(PACKAGES), target).await.unwrap();
        let mut command = node.command(Path::new(SCRIPT)).unwrap();
        command.args(["8", &duration.as_millis().to_string()]).arg(self.holds.directory());
        command.args(KEYS).env("FIRESTORE_EMULATOR_HOST", self.emulator.address().to_string());
        stdout_of("storm.mjs", &command.output().await.unwrap()).unwrap();
    }

    /// Runs until each of the kinds has its number of grants, and checks the holds.
    async fn run(self, kinds: &[(&str, usize)]) {
        let (begun, holds) = (Instant::now(), &self.holds);
        let has = |part| kinds.iter().all(|(who, count)| holds.grants(who) * part >= *count);
        let stop = async {
            while !has(1) && holds.flaws().is_empty() && begun.elapsed() < MAX_DURATION {
                sleep(Duration::from_millis(50)).await;
            }
            holds.stop();
        };
        tokio::join!(self.run_node(MAX_DURATION), stop);
        self.tasks.join_all().await;
        let grants: Vec<_> = kinds.iter().map(|(who, _)| (who, holds.grants(who))).collect();
        eprintln!("{grants:?} in {:?}", begun.elapsed());
        let flaws = holds.flaws();
        assert!(flaws.is_empty(), "{} flaws, such as {:?}", flaws.len(), flaws.first());
        // If commits conflict, the client with fewer round trips wins most of the time.
        assert!(has(6), "{grants:?} are too few");
        let backend = connect(&self.emulator);
        for text in KEYS {
            eventually("the last grants expire", async || !is_locked(&backend, text).await).await;
        }
    }
}

/// Holds a lock for a moment.
async fn hold_lock(guard: &LockGuard, holds: &Holds, key: &str, turn: usize) {
    let grant = Grant { fence: guard.fence().unwrap(), expires_at: guard.expires_at() };
    let mut hold = holds.enter("rust", key, Mode::Exclusive, grant);
    sleep(Duration::from_millis(turn as u64 % 5)).await;
    if turn.is_multiple_of(4) {
        guard.extend(LONG).await.unwrap();
        hold.extend(guard.expires_at());
    }
    assert!(guard.is_valid());
    hold.leave();
}

/// Acquires locks until the storm is over.
async fn contend(locks: LockManager, holds: Arc<Holds>, task: usize) {
    for turn in task.. {
        if !holds.continues() {
            break;
        }
        let key = KEYS[turn % KEYS.len()];
        let guard = locks.lock(key).ttl("30s").wait(LONG).acquire().await.unwrap();
        hold_lock(&guard, &holds, key, turn).await;
        assert_eq!(guard.release().await.unwrap(), ReleaseOutcome::Released);
        // Long enough for clients that make more round trips to acquire a lock.
        sleep(Duration::from_millis(100 + turn as u64 % 300)).await;
    }
    assert_eq!(locks.shutdown(LONG).await, ShutdownOutcome::Drained);
}

async fn exclusive_storm(concurrency: Concurrency) {
    let mut storm = Storm::new(concurrency).await;
    for task in 0..TASKS {
        let locks = LockManager::new(connect(&storm.emulator));
        storm.tasks.spawn(contend(locks, storm.holds.clone(), task));
    }
    storm.run(&[("rust", GRANTS), (THEIRS, GRANTS)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rust_and_node_clients_exclude_each_other_in_pessimistic_mode() {
    let test = exclusive_storm(Concurrency::Pessimistic);
    unless_skipped("firestore", "node_storm_where_reads_lock", test).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rust_and_node_clients_exclude_each_other_in_optimistic_mode() {
    let test = exclusive_storm(Concurrency::Optimistic);
    unless_skipped("firestore", "node_storm_where_commits_conflict", test).await.unwrap();
}

const PERMITS: Mode = Mode::Shared { permits: NonZeroU32::new(2) };

/// The kinds of clients of this process in a mixed storm.
const OURS: [(&str, Mode); 3] =
    [("reader", Mode::SHARED), ("user of a permit", PERMITS), ("writer", Mode::Exclusive)];

/// The grants that are left to expire, and how many of them a storm needs.
const EXPIRING: (&str, usize) = ("left to expire", 5);

/// How many turns of a task that shares keys pass from one stay to the next. It is odd, so that it
/// stays on every key.
const STAY_INTERVAL: usize = 15;
/// The ttl of a grant that is left to expire.
const SHORT: Duration = Duration::from_millis(200);
/// Longer than such a grant lasts with its grace period.
const STAY: Duration = Duration::from_millis(1_500);

/// How long a writer keeps new readers out, and how often it tries meanwhile.
const ANNOUNCEMENT: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 4;

/// A client of one kind.
struct Task {
    who: &'static str,
    mode: Mode,
    backend: FirestoreBackend,
    holds: Arc<Holds>,
}

impl Task {
    async fn run(self, first: usize) {
        for turn in first.. {
            if !self.holds.continues() {
                return;
            }
            let key = KEYS[turn % KEYS.len()];
            match turn % STAY_INTERVAL {
                0 if self.mode.is_shared() => self.stay(key, turn.is_multiple_of(2)).await,
                _ => self.visit(key, turn).await,
            }
            // Long enough for clients that make more round trips to acquire a lock.
            sleep(Duration::from_millis(50 + turn as u64 % 150)).await;
        }
    }

    fn ask(&self, key: &str, ttl: Duration) -> AcquireRequest {
        ask(key, ttl).with_mode(self.mode)
    }

    /// Holds the key for a moment.
    async fn visit(&self, key: &str, turn: usize) {
        let announcement = turn.is_multiple_of(2).then_some(ANNOUNCEMENT);
        let request = self.ask(key, LONG).with_announcement(announcement);
        let Some(mut hold) = self.enter(self.who, &request).await else { return };
        sleep(Duration::from_millis(turn as u64 % 5)).await;
        if turn.is_multiple_of(4) {
            self.extend(&request, &mut hold).await;
        }
        self.leave(&request, &hold).await;
    }

    /// Holds the key twice, and leaves one of the grants to expire while the other lasts. The longer
    /// grant is the first of the two, or was extended when both were made.
    async fn stay(&self, key: &str, is_extended: bool) {
        let staying = self.ask(key, if is_extended { SHORT } else { LONG });
        let Some(mut hold) = self.enter(self.who, &staying).await else { return };
        drop(self.enter(EXPIRING.0, &self.ask(key, SHORT)).await);
        if is_extended {
            self.extend(&staying, &mut hold).await;
        }
        sleep(STAY).await;
        self.leave(&staying, &hold).await;
    }

    /// Tries a few times to hold the key.
    async fn enter(&self, who: &str, request: &AcquireRequest) -> Option<Hold<'_>> {
        for _ in 0..ATTEMPTS {
            match again(|| self.backend.acquire(request)).await {
                Ok(AcquireOutcome::Granted(grant)) => {
                    return Some(self.holds.enter(who, request.key.as_str(), self.mode, grant));
                }
                Ok(AcquireOutcome::Contended { .. }) => {}
                // The key is shared with another number of permits.
                Err(error) if error.kind() == ErrorKind::InvalidArgument => {}
                Err(error) => panic!("{error:?}"),
            }
            sleep(Duration::from_millis(10)).await;
        }
        None
    }

    async fn extend(&self, request: &AcquireRequest, hold: &mut Hold<'_>) {
        let lock = lock_of(request);
        match again(|| self.backend.extend(&lock, ttl(LONG))).await.unwrap() {
            ExtendOutcome::Extended { expires_at } => hold.extend(expires_at),
            ExtendOutcome::NotHeld(_) => self.assert_over(hold),
        }
    }

    async fn leave(&self, request: &AcquireRequest, hold: &Hold<'_>) {
        let lock = lock_of(request);
        hold.leave();
        match again(|| self.backend.release(&lock)).await.unwrap() {
            ReleaseOutcome::Released => {}
            ReleaseOutcome::NotHeld(_) => self.assert_over(hold),
        }
    }

    fn assert_over(&self, hold: &Hold<'_>) {
        if !hold.is_over() {
            self.holds.flaw(format!("{} lost {} early", self.who, hold.name()));
        }
    }
}

/// Repeats an operation that came too late in every attempt.
async fn again<T, F>(attempt: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    loop {
        match attempt().await {
            Err(error) if error.is_retryable() => {}
            outcome => return outcome,
        }
    }
}

async fn mixed_storm(concurrency: Concurrency) {
    let mut storm = Storm::new(concurrency).await;
    for number in 0..TASKS {
        let (who, mode) = OURS[number % OURS.len()];
        let (backend, holds) = (connect(&storm.emulator), storm.holds.clone());
        let task = Task { who, mode, backend, holds };
        storm.tasks.spawn(task.run(number * 7));
    }
    let [reader, user, writer] = OURS.map(|(who, _)| (who, GRANTS));
    storm.run(&[reader, user, writer, (THEIRS, GRANTS), EXPIRING]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_writer_in_either_language_is_beside_a_reader_in_pessimistic_mode() {
    let test = mixed_storm(Concurrency::Pessimistic);
    unless_skipped("firestore", "mixed_node_storm_where_reads_lock", test).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_writer_in_either_language_is_beside_a_reader_in_optimistic_mode() {
    let test = mixed_storm(Concurrency::Optimistic);
    unless_skipped("firestore", "mixed_node_storm_where_commits_conflict", test).await.unwrap();
}
