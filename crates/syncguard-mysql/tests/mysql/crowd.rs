//! Many readers and writers of few keys at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use syncguard_core::{
    Fence,
    backend::{AcquireOutcome, AcquireRequest, LockBackend, LockRef, Mode},
};
use syncguard_mysql::MysqlBackend;
use syncguard_testkit::operations::{LONG, ask, extended, lock_of};
use tokio::{sync::RwLock, task::JoinSet};

use crate::{Foreign, Name, shared};

const KEYS: usize = 3;
const READERS: usize = 18;
const WRITERS: usize = 6;
/// How many grants each writer gets while readers come and go without a pause.
const GRANTS: usize = 15;
const ANNOUNCEMENT: Duration = Duration::from_millis(500);
/// The maximum duration. An idle machine takes a tenth of that.
const MAX_DURATION: Duration = Duration::from_secs(120);

/// One key as those who hold it see it.
#[derive(Default)]
struct Inside {
    lock: RwLock<()>,
    highest: AtomicU64,
}

#[derive(Default)]
struct Crowd {
    keys: [Inside; KEYS],
    stop: AtomicBool,
    read: AtomicUsize,
    written: AtomicUsize,
}

impl Crowd {
    /// Asserts that a reader is beside no writer.
    async fn read(&self, number: usize) {
        let _inside = self.keys[number].lock.try_read().expect("a reader is beside a writer");
        tokio::task::yield_now().await;
        self.read.fetch_add(1, Ordering::Relaxed);
    }

    /// Asserts that a writer is alone, under the highest fence.
    async fn write(&self, number: usize, fence: Fence) {
        let key = &self.keys[number];
        let _inside = key.lock.try_write().expect("a writer is beside another holder");
        let before = key.highest.swap(fence.number(), Ordering::SeqCst);
        assert!(before < fence.number(), "{before} before {fence}");
        tokio::task::yield_now().await;
        self.written.fetch_add(1, Ordering::Relaxed);
    }

    fn has_ended(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Ends a grant as holders do: with its key, by its id alone from another process, or by abandoning
/// it.
async fn leave(own: &MysqlBackend, other: &MysqlBackend, request: &AcquireRequest, turn: usize) {
    match turn % 4 {
        0 => drop(other.release(&LockRef::from(request.lock_id)).await.unwrap()),
        1 => other.abandon(request.lock_id, &request.key).await.unwrap(),
        _ => drop(own.release(&lock_of(request)).await.unwrap()),
    }
}

async fn keep_reading(clients: [MysqlBackend; 2], task: usize, crowd: Arc<Crowd>) {
    let [own, other] = clients;
    for turn in task.. {
        if crowd.has_ended() {
            return;
        }
        let number = turn % KEYS;
        let request = ask(&format!("k{number}"), LONG).with_mode(Mode::SHARED);
        match own.acquire(&request).await.unwrap() {
            AcquireOutcome::Granted(_) => {
                crowd.read(number).await;
                assert!(extended(&own, &request).await);
                crowd.read(number).await;
                leave(&own, &other, &request, turn).await;
            }
            // In the lock layer, waiters pause as well.
            AcquireOutcome::Contended { .. } => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

async fn write(clients: [MysqlBackend; 2], task: usize, crowd: Arc<Crowd>) {
    let [own, other] = clients;
    for turn in task..task + GRANTS {
        let number = turn % KEYS;
        let request = ask(&format!("k{number}"), LONG).with_announcement(Some(ANNOUNCEMENT));
        let grant = loop {
            match own.acquire(&request).await.unwrap() {
                AcquireOutcome::Granted(grant) => break grant,
                _ if crowd.has_ended() => return,
                AcquireOutcome::Contended { .. } => {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        };
        crowd.write(number, grant.fence).await;
        leave(&own, &other, &request, turn).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_crowd_no_writer_is_beside_a_holder_and_every_writer_gets_in() {
    let (server, name) = (shared().await, Name::fresh());
    let config = || name.config(server.url()).max_connections(12);
    let clients = [
        MysqlBackend::connect(config()).await.unwrap(),
        MysqlBackend::connect(config()).await.unwrap(),
    ];
    let crowd = Arc::<Crowd>::default();
    let (mut readers, mut writers) = (JoinSet::new(), JoinSet::new());
    for task in 0..READERS {
        let mut clients = clients.clone();
        clients.rotate_left(task % 2);
        readers.spawn(keep_reading(clients, task, crowd.clone()));
    }
    for task in 0..WRITERS {
        let mut clients = clients.clone();
        clients.rotate_left(task % 2);
        writers.spawn(write(clients, task, crowd.clone()));
    }
    let is_in_time = tokio::time::timeout(MAX_DURATION, async {
        while let Some(writer) = writers.join_next().await {
            writer.unwrap();
        }
    })
    .await
    .is_ok();
    crowd.stop.store(true, Ordering::Relaxed);
    readers.join_all().await;
    writers.join_all().await;
    let (read, written) =
        (crowd.read.load(Ordering::Relaxed), crowd.written.load(Ordering::Relaxed));
    assert!(is_in_time, "only {written} writers got in beside {read} readers");
    assert_eq!(written, WRITERS * GRANTS);
    let held =
        name.fill("SELECT COUNT(*) FROM {locks} WHERE expires_at_ms > 0 OR holders IS NOT NULL");
    let mut foreign = Foreign::open(server.url()).await;
    assert_eq!(foreign.number(&held).await, 0, "nothing is left behind");
    let members =
        name.fill("SELECT COUNT(*) FROM {locks} WHERE lock_key >= X'FE' AND lock_key < X'FF'");
    assert_eq!(foreign.number(&members).await, 0);
}
