//! Many tasks that contend for few locks with a short ttl, which some of them hold until it has
//! passed.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use syncguard_core::{
    BootClock, BootInstant, Clock,
    backend::{AcquireOutcome, LockBackend, Mode},
};
use syncguard_mysql::MysqlBackend;
use syncguard_testkit::{
    history::{Event, History, Incarnation, Record},
    operations::{ask, lock_of},
};

use crate::{Foreign, Name, shared};

const KEYS: usize = 4;
const TASKS: u32 = 16;
const TTL: Duration = Duration::from_millis(20);
/// How long a grant keeps its key past its expiry.
const GRACE: Duration = Duration::from_millis(1_000);
const GRANTS: usize = 5_000;

/// The maximum duration. An idle machine takes a sixth of that.
const MAX_DURATION: Duration = Duration::from_secs(150);

/// The record of all entries and exits, and the signal to stop.
#[derive(Default)]
struct Journal {
    records: Mutex<Vec<Record>>,
    grants: AtomicUsize,
    /// The number of grants that were not released, each of which blocks its key for a second.
    unreleased: AtomicUsize,
    stop: AtomicBool,
}

impl Journal {
    fn write(&self, process: Incarnation, at: BootInstant, event: Event) {
        self.records.lock().unwrap().push(Record { process, at, event });
    }

    fn history(&self) -> History {
        History::new(self.records.lock().unwrap().clone())
    }
}

/// A task that acquires and releases until it is stopped.
async fn contend(backend: MysqlBackend, number: u32, journal: Arc<Journal>) {
    let process = Incarnation(number);
    for turn in number as usize.. {
        if journal.stop.load(Ordering::Relaxed) {
            return;
        }
        let request = ask(&format!("k{}", turn % KEYS), TTL);
        let requested = BootClock.now();
        let AcquireOutcome::Granted(grant) = backend.acquire(&request).await.unwrap() else {
            continue;
        };
        let (key, fence) = (request.key.clone(), grant.fence);
        let (entered, until) = (BootClock.now(), requested + TTL + GRACE);
        let (mode, held) = (Mode::Exclusive, key.clone());
        let event = Event::Entered { key: held, fence, mode, requested, until };
        journal.write(process, entered, event);
        tokio::task::yield_now().await;
        let left = BootClock.now().min(until);
        journal.write(process, left, Event::Left { key, fence });
        if journal.grants.fetch_add(1, Ordering::Relaxed) % 250 == 249 {
            journal.unreleased.fetch_add(1, Ordering::Relaxed);
        } else {
            backend.release(&lock_of(&request)).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_storm_no_two_holders_overlap_and_every_fence_is_higher() {
    let (server, name) = (shared().await, Name::fresh());
    let backend =
        MysqlBackend::connect(name.config(server.url()).max_connections(TASKS)).await.unwrap();
    let (journal, mut tasks) = (Arc::<Journal>::default(), tokio::task::JoinSet::new());
    for number in 0..TASKS {
        tasks.spawn(contend(backend.clone(), number, journal.clone()));
    }
    let begun = Instant::now();
    while journal.grants.load(Ordering::Relaxed) < GRANTS && begun.elapsed() < MAX_DURATION {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    journal.stop.store(true, Ordering::Relaxed);
    tasks.join_all().await;
    let history = journal.history();
    let flaws = history.flaws();
    assert!(flaws.is_empty(), "{} flaws, such as {:?}", flaws.len(), flaws.first());
    assert!(history.entries().len() >= GRANTS, "only {} grants", history.entries().len());
    assert!(journal.unreleased.load(Ordering::Relaxed) > 10, "keys were taken over as well");
    let sum = name.fill("SELECT CAST(SUM(fence) AS SIGNED) FROM {locks}");
    let counted = Foreign::open(server.url()).await.number(&sum).await;
    assert_eq!(usize::try_from(counted).unwrap(), history.entries().len(), "no fence was wasted");
}
