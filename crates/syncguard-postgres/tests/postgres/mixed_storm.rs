//! Readers, users of a semaphore and writers of this client, and writers of the TypeScript client,
//! on the same keys at the same time.

use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use syncguard_core::{
    ErrorKind, ReleaseOutcome,
    backend::{AcquireOutcome, AcquireRequest, ExtendOutcome, LockBackend, Mode},
};
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::operations::{LONG, ask, eventually, is_locked, lock_of, ttl};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    Foreign, Names,
    holds::{Hold, Journal, over, server_micros},
    peer::{typescript_acquire, typescript_extend, typescript_release},
    shared,
};

const KEYS: usize = 4;
const PERMITS: Mode = Mode::Shared { permits: NonZeroU32::new(2) };

/// The kinds of clients, and the mode of each. `THEIRS` runs the statements of the TypeScript
/// client.
const KINDS: [(&str, Mode); 4] = [
    ("reader", Mode::SHARED),
    ("user of a permit", PERMITS),
    ("writer", Mode::Exclusive),
    (THEIRS, Mode::Exclusive),
];
const THEIRS: &str = "typescript";

/// The number of tasks of each kind.
const TASKS: usize = 4;

/// The number of grants of each kind at which the storm ends, and of shared ones left to expire.
const GRANTS: usize = 400;
const EXPIRED: usize = 16;
/// The numbers that even a busy machine must reach in this time.
const MIN_GRANTS: usize = 20;
const MIN_EXPIRED: usize = 2;
/// The maximum duration. An idle machine takes ten seconds.
const MAX_DURATION: Duration = Duration::from_secs(90);

/// How many turns of a task pass from one grant that it leaves to expire to the next. It is odd, so
/// that these are grants of every key.
const EXPIRY_INTERVAL: usize = 75;
/// The ttl of such a grant.
const SHORT: Duration = Duration::from_millis(20);
/// Longer than such a grant lasts with its grace period.
const STAY: Duration = Duration::from_millis(1_200);

/// How long a writer keeps new readers out, and how often it tries meanwhile.
const ANNOUNCEMENT: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 4;
/// How long a task pauses after each attempt.
const PAUSE: Duration = Duration::from_millis(2);

/// A client of one kind.
struct Task {
    who: &'static str,
    mode: Mode,
    backend: PostgresBackend,
    foreign: Foreign,
    names: Names,
    journal: Arc<Journal>,
}

impl Task {
    async fn run(mut self, first: usize) {
        for turn in first.. {
            if !self.journal.continues() {
                return;
            }
            let text = key_of(&self.names, turn);
            match turn % EXPIRY_INTERVAL {
                0 if self.mode.is_shared() => self.stay(&text, turn.is_multiple_of(2)).await,
                0 => self.visit(&self.ask(&text, SHORT), None).await,
                rest => {
                    let announcement = turn.is_multiple_of(2).then_some(ANNOUNCEMENT);
                    let request = self.ask(&text, LONG).with_announcement(announcement);
                    self.visit(&request, Some(rest)).await;
                }
            }
            sleep(PAUSE).await;
        }
    }

    fn ask(&self, text: &str, ttl: Duration) -> AcquireRequest {
        ask(text, ttl).with_mode(self.mode)
    }

    /// Holds the key for a moment, and then releases it, or, without a number, leaves its grant to
    /// expire.
    async fn visit(&mut self, request: &AcquireRequest, number: Option<usize>) {
        let Some(mut hold) = self.enter(request).await else { return };
        if number.is_some_and(|number| number.is_multiple_of(3)) {
            self.extend(request, &mut hold).await;
        }
        match number {
            Some(_) => self.leave(request, hold).await,
            None => self.expire(request, hold),
        }
    }

    /// Holds the key twice, and leaves one of the grants to expire while the other lasts. The longer
    /// grant is the first of the two, or was extended when both were made.
    async fn stay(&mut self, text: &str, is_extended: bool) {
        let staying = self.ask(text, if is_extended { SHORT } else { LONG });
        let Some(mut hold) = self.enter(&staying).await else { return };
        let expiring = self.ask(text, SHORT);
        let beside = self.enter(&expiring).await;
        if is_extended {
            self.extend(&staying, &mut hold).await;
        }
        sleep(STAY).await;
        self.leave(&staying, hold).await;
        if let Some(beside) = beside {
            self.expire(&expiring, beside);
        }
    }

    /// Tries a few times to hold the key.
    async fn enter(&mut self, request: &AcquireRequest) -> Option<Hold> {
        for _ in 0..ATTEMPTS {
            if let Some((fence, expires)) = self.acquire(request).await {
                let (who, mode, entered) = (self.who, self.mode, self.now().await);
                let (left, over, lost_early) = (entered, over(expires), false);
                return Some(Hold { who, mode, entered, left, over, fence, lost_early });
            }
            sleep(PAUSE).await;
        }
        None
    }

    async fn acquire(&mut self, request: &AcquireRequest) -> Option<(u64, i64)> {
        if self.who == THEIRS {
            let (text, id) = (request.key.as_str(), request.lock_id.as_str());
            return typescript_acquire(&mut self.foreign, &self.names, text, id).await;
        }
        match self.backend.acquire(request).await {
            Ok(AcquireOutcome::Granted(grant)) => {
                Some((grant.fence.number(), grant.expires_at.unix_millis()))
            }
            Ok(AcquireOutcome::Contended { .. }) => None,
            // The key is shared with another number of permits.
            Err(error) if error.kind() == ErrorKind::InvalidArgument => None,
            Err(error) => panic!("{error:?}"),
        }
    }

    async fn extend(&mut self, request: &AcquireRequest, hold: &mut Hold) {
        let expires = if self.who == THEIRS {
            let id = request.lock_id.as_str();
            typescript_extend(&mut self.foreign, &self.names, id).await
        } else {
            match self.backend.extend(&lock_of(request), ttl(LONG)).await.unwrap() {
                ExtendOutcome::Extended { expires_at } => Some(expires_at.unix_millis()),
                ExtendOutcome::NotHeld(_) => None,
            }
        };
        match expires {
            Some(expires) => hold.over = over(expires),
            None => hold.lost_early |= self.now().await < hold.over,
        }
    }

    async fn leave(&mut self, request: &AcquireRequest, mut hold: Hold) {
        hold.left = self.now().await;
        let is_released = if self.who == THEIRS {
            let id = request.lock_id.as_str();
            typescript_release(&mut self.foreign, &self.names, id).await
        } else {
            self.backend.release(&lock_of(request)).await.unwrap() == ReleaseOutcome::Released
        };
        hold.lost_early |= !is_released && self.now().await < hold.over;
        self.journal.record(request.key.as_str(), hold);
    }

    fn expire(&self, request: &AcquireRequest, mut hold: Hold) {
        hold.left = hold.over;
        self.journal.record(request.key.as_str(), hold);
    }

    async fn now(&mut self) -> i64 {
        server_micros(&mut self.foreign).await
    }
}

fn key_of(names: &Names, number: usize) -> String {
    format!("{} {}", names.locks, number % KEYS)
}

/// Returns the number of grants of each kind, and of shared ones that were left to expire.
fn counts(journal: &Journal) -> ([usize; KINDS.len()], usize) {
    let grants = KINDS.map(|(who, _)| journal.count(|hold| hold.who == who));
    (grants, journal.count(|hold| hold.mode.is_shared() && hold.left == hold.over))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_storm_no_writer_of_either_client_is_beside_a_reader() {
    let (server, names, journal) = (shared().await, Names::fresh(), Arc::<Journal>::default());
    let config = names.config(&server.url()).max_connections(8);
    let backends = [
        PostgresBackend::connect(config.clone()).await.unwrap(),
        PostgresBackend::connect(config).await.unwrap(),
    ];
    let mut tasks = JoinSet::new();
    for number in 0..TASKS * KINDS.len() {
        let (who, mode) = KINDS[number % KINDS.len()];
        let backend = backends[number / KINDS.len() % 2].clone();
        let foreign = Foreign::open(&server.url()).await;
        let (names, journal) = (names.clone(), journal.clone());
        let task = Task { who, mode, backend, foreign, names, journal };
        tasks.spawn(task.run(number * 37));
    }
    let begun = Instant::now();
    let is_done = |(grants, expired): ([usize; KINDS.len()], usize)| {
        grants.into_iter().all(|count| count >= GRANTS) && expired >= EXPIRED
    };
    while !is_done(counts(&journal)) && begun.elapsed() < MAX_DURATION {
        sleep(Duration::from_millis(50)).await;
        // None ends before it is told to, unless it fails.
        tasks.try_join_next().map(Result::unwrap);
    }
    journal.stop();
    tasks.join_all().await;
    let (grants, expired) = counts(&journal);
    eprintln!("{grants:?} grants of {KINDS:?}, {expired} expired, in {:?}", begun.elapsed());
    let flaws = journal.flaws();
    assert!(flaws.is_empty(), "{} flaws, such as {:?}", flaws.len(), flaws.first());
    assert!(grants.into_iter().all(|count| count >= MIN_GRANTS), "{grants:?} are too few");
    assert!(expired >= MIN_EXPIRED, "{expired} are too few");
    for number in 0..KEYS {
        let text = key_of(&names, number);
        eventually("the last grants expire", async || !is_locked(&backends[0], &text).await).await;
    }
}
