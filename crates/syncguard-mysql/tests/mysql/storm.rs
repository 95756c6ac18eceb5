//! Many tasks that want few locks, for shorter than some of them hold one.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use syncguard_core::{AcquireOutcome, BootClock, BootInstant, Clock, LockBackend};
use syncguard_mysql::MysqlBackend;
use syncguard_testkit::{
    history::{Event, History, Incarnation, Record},
    operations::{ask, lock_of},
};

use crate::{Foreign, Name, shared};

const KEYS: usize = 4;
const TASKS: u32 = 16;
const TTL: Duration = Duration::from_millis(20);
/// How long past its expiry a grant still keeps its key.
const GRACE: Duration = Duration::from_millis(1_000);
const GRANTS: usize = 5_000;

/// A machine with nothing else to do takes a sixth of that.
const PATIENCE: Duration = Duration::from_secs(150);

/// What all contenders write down, and when they are to stop.
#[derive(Default)]
struct Journal {
    records: Mutex<Vec<Record>>,
    grants: AtomicUsize,
    /// How often somebody went without a release, which costs the key a second.
    leases_over: AtomicUsize,
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

/// A task, which comes and goes until it is told to stop.
async fn contend(backend: MysqlBackend, number: u32, journal: Arc<Journal>) {
    let process = Incarnation(number);
    for turn in number as usize.. {
        if journal.stop.load(Ordering::Relaxed) {
            return;
        }
        let request = ask(&format!("k{}", turn % KEYS), TTL);
        let sent = BootClock.now();
        let AcquireOutcome::Granted(grant) = backend.acquire(&request).await.unwrap() else {
            continue;
        };
        let (key, fence) = (request.key.clone(), grant.fence);
        let (entered, until) = (BootClock.now(), sent + TTL + GRACE);
        journal.write(process, entered, Event::Entered { key: key.clone(), fence, until });
        tokio::task::yield_now().await;
        let left = BootClock.now().min(until);
        journal.write(process, left, Event::Left { key, fence });
        if journal.grants.fetch_add(1, Ordering::Relaxed) % 250 == 249 {
            journal.leases_over.fetch_add(1, Ordering::Relaxed);
        } else {
            backend.release(&lock_of(&request)).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_storm_nobody_meets_and_every_fence_is_higher() {
    let (server, name) = (shared().await, Name::fresh());
    let backend =
        MysqlBackend::connect(name.config(server.url()).max_connections(TASKS)).await.unwrap();
    let (journal, mut tasks) = (Arc::<Journal>::default(), tokio::task::JoinSet::new());
    for number in 0..TASKS {
        tasks.spawn(contend(backend.clone(), number, journal.clone()));
    }
    let begun = Instant::now();
    while journal.grants.load(Ordering::Relaxed) < GRANTS && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    journal.stop.store(true, Ordering::Relaxed);
    tasks.join_all().await;
    let history = journal.history();
    let flaws = history.flaws();
    assert!(flaws.is_empty(), "{} flaws, such as {:?}", flaws.len(), flaws.first());
    assert!(history.entries().len() >= GRANTS, "only {} grants", history.entries().len());
    assert!(journal.leases_over.load(Ordering::Relaxed) > 10, "keys were taken over as well");
    let sum = name.fill("SELECT CAST(SUM(fence) AS SIGNED) FROM {locks}");
    let counted = Foreign::open(server.url()).await.number(&sum).await;
    assert_eq!(usize::try_from(counted).unwrap(), history.entries().len(), "no fence was wasted");
}
