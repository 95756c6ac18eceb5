//! Extends that wait for a connection are sent together.

use std::{future::poll_fn, task::Poll, time::Duration};

use syncguard_core::{
    Error, LockId, LockManager, Timestamp, Ttl,
    backend::{AcquireRequest, ExtendOutcome, LockBackend},
};
use syncguard_postgres::{PostgresBackend, PostgresConfig};
use syncguard_testkit::{
    operations::{LONG, ask, eventually, granted, lock_of, released, ttl},
    server::PostgresServer,
};
use tokio::task::{JoinHandle, yield_now};

use crate::{Foreign, Names, queueing::hold_turn, shared};

/// The maximum number of extends in one statement.
const BATCH_SIZE: usize = 64;

/// The connections of a backend.
const CONNECTIONS: u32 = 2;

/// A backend whose connections can all be blocked inside the server.
struct BusyBackend<'a> {
    server: &'a PostgresServer,
    names: Names,
    backend: PostgresBackend,
    occupied: usize,
    waiting: Vec<(Foreign, Extending)>,
}

type Extending = JoinHandle<Result<ExtendOutcome, Error>>;

impl<'a> BusyBackend<'a> {
    async fn new(server: &'a PostgresServer, names: Names, config: PostgresConfig) -> Self {
        let config = config.max_connections(CONNECTIONS).lock_timeout(LONG).statement_timeout(LONG);
        let backend = PostgresBackend::connect(config).await.unwrap();
        Self { server, names, backend, occupied: 0, waiting: Vec::new() }
    }

    /// Acquires `count` locks.
    async fn acquire_many(&self, count: usize) -> Vec<AcquireRequest> {
        let mut requests = Vec::new();
        for number in 0..count {
            let request = ask(&format!("{} held {number}", self.names.locks), LONG);
            granted(&self.backend, &request).await;
            requests.push(request);
        }
        requests
    }

    /// Begins an extend. When this returns, it is queued or sent.
    async fn begin_extend(&self, request: &AcquireRequest, left: Duration, ttl: Ttl) -> Extending {
        let (backend, lock) = (self.backend.clone(), lock_of(request).with_time_left(left));
        let mut extending = Box::pin(async move { backend.extend(&lock, ttl).await });
        assert!(
            poll_fn(|context| Poll::Ready(extending.as_mut().poll(context).is_pending())).await
        );
        tokio::spawn(extending)
    }

    async fn begin_extend_in(&self, request: &AcquireRequest, seconds: u64) -> Extending {
        self.begin_extend(request, Duration::from_secs(seconds), ttl(LONG)).await
    }

    /// Blocks all connections inside the server.
    async fn block_all(&mut self) {
        for _ in 0..CONNECTIONS {
            let text = format!("{} occupied {}", self.names.locks, self.occupied);
            let request = ask(&text, LONG);
            // Each connection waits for a key of its own.
            self.occupied += 1;
            acquire_elsewhere(self, &request).await;
            let turn = hold_turn(self.server, &text).await;
            self.waiting.push((turn, self.begin_extend_in(&request, 0).await));
            self.wait_until_blocked(self.waiting.len()).await;
        }
    }

    async fn wait_until_blocked(&self, count: usize) {
        let mut foreign = Foreign::open(&self.server.url()).await;
        let waiting = format!(
            "SELECT count(*) FROM pg_stat_activity
             WHERE wait_event = 'advisory' AND query LIKE '%{}%'",
            self.names.locks
        );
        let count = i64::try_from(count).unwrap();
        eventually("they wait", async || foreign.number(&waiting).await >= count).await;
    }

    /// Unblocks one connection, which completes its extend.
    async fn unblock_one(&mut self) {
        let (mut turn, extending) = self.waiting.pop().unwrap();
        turn.run("COMMIT").await;
        assert!(expiry(extending).await.is_some());
    }

    async fn unblock_all(&mut self) {
        while !self.waiting.is_empty() {
            self.unblock_one().await;
        }
    }

    /// Returns the transaction that last wrote the row of a grant.
    async fn writer(&self, foreign: &mut Foreign, lock_id: LockId) -> i64 {
        let (locks, id) = (&self.names.locks, lock_id.as_str());
        let row = format!("SELECT xmin::text::bigint FROM {locks} WHERE lock_id = '{id}'");
        foreign.number(&row).await
    }
}

/// Acquires over another backend, because an acquire never gets the last connection.
async fn acquire_elsewhere(busy: &BusyBackend<'_>, request: &AcquireRequest) {
    granted(&busy.names.connect(&busy.server.url()).await, request).await;
}

async fn expiry(extending: Extending) -> Option<Timestamp> {
    match extending.await.unwrap().unwrap() {
        ExtendOutcome::Extended { expires_at } => Some(expires_at),
        ExtendOutcome::NotHeld(_) => None,
    }
}

/// Both ways of sending statements.
fn configs(server: &PostgresServer) -> [(Names, PostgresConfig); 2] {
    [false, true].map(|unprepared| {
        let names = Names::fresh();
        let config = names.config(&server.url());
        (names, if unprepared { config.pgbouncer() } else { config })
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extends_that_wait_for_a_connection_are_sent_together_the_most_urgent_first() {
    let server = shared().await;
    for (names, config) in configs(&server) {
        let mut busy = BusyBackend::new(&server, names, config).await;
        let requests = busy.acquire_many(3 * BATCH_SIZE - 1).await;
        busy.block_all().await;
        let mut extending = Vec::new();
        // The least urgent extends are queued first.
        for (seconds, request) in (1..).zip(&requests).collect::<Vec<_>>().into_iter().rev() {
            extending.push(busy.begin_extend_in(request, seconds).await);
        }
        // The statements run one after the other, over one connection.
        busy.unblock_one().await;
        for extending in extending {
            assert!(expiry(extending).await.is_some());
        }
        let (mut writers, mut foreign) = (Vec::new(), Foreign::open(&server.url()).await);
        for request in &requests {
            writers.push(busy.writer(&mut foreign, request.lock_id).await);
        }
        assert!(writers.is_sorted(), "the most urgent were not first: {writers:?}");
        writers.dedup();
        assert_eq!(writers.len(), 3, "they were not sent together");
        busy.unblock_one().await;
    }
}

#[tokio::test]
async fn the_extend_of_a_guard_with_more_time_left_is_sent_after_those_with_less() {
    let (server, names) = (shared().await, Names::fresh());
    let config = names.config(&server.url());
    let mut busy = BusyBackend::new(&server, names, config).await;
    let requests = busy.acquire_many(BATCH_SIZE).await;
    let locks = LockManager::new(busy.backend.clone());
    let guard = locks.lock("long").ttl(LONG * 10).acquire().await.unwrap();
    let id = guard.lock_id();
    busy.block_all().await;
    let first = tokio::spawn(async move { guard.extend(LONG * 10).await.map(|()| guard) });
    // It is queued once all ready tasks have run.
    for _ in 0..100 {
        yield_now().await;
    }
    let mut extending = Vec::new();
    for request in &requests {
        extending.push(busy.begin_extend_in(request, LONG.as_secs()).await);
    }
    busy.unblock_one().await;
    let guard = first.await.unwrap().unwrap();
    for extending in extending {
        assert!(expiry(extending).await.is_some());
    }
    let mut foreign = Foreign::open(&server.url()).await;
    let last = busy.writer(&mut foreign, id).await;
    for request in &requests {
        assert!(busy.writer(&mut foreign, request.lock_id).await < last);
    }
    busy.unblock_one().await;
    guard.release().await.unwrap();
}

/// Another client may lock a key or a row for any time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_extend_that_has_to_wait_does_not_delay_the_others_of_its_batch() {
    let server = shared().await;
    for (names, config) in configs(&server) {
        let mut busy = BusyBackend::new(&server, names, config).await;
        let requests = busy.acquire_many(10).await;
        let [by_key, by_row, others @ ..] = &requests[..] else { panic!("ten are held") };
        let mut row = Foreign::open(&server.url()).await;
        let (locks, id) = (&busy.names.locks, by_row.lock_id.as_str());
        row.run(&format!("BEGIN; SELECT 1 FROM {locks} WHERE lock_id = '{id}' FOR UPDATE")).await;
        let key = hold_turn(&server, by_key.key.as_str()).await;
        for (mut foreign, delayed) in [(key, by_key), (row, by_row)] {
            busy.block_all().await;
            let delayed = busy.begin_extend_in(delayed, 0).await;
            let mut extending = Vec::new();
            for request in others {
                extending.push(busy.begin_extend_in(request, 1).await);
            }
            busy.unblock_all().await;
            for extending in extending {
                assert!(expiry(extending).await.is_some());
            }
            assert!(!delayed.is_finished());
            foreign.run("COMMIT").await;
            assert!(expiry(delayed).await.is_some());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_extend_of_a_batch_has_its_own_outcome() {
    let server = shared().await;
    for (names, config) in configs(&server) {
        let mut busy = BusyBackend::new(&server, names, config).await;
        let requests = busy.acquire_many(5).await;
        let [gone, abandoned, twice, others @ ..] = &requests[..] else { panic!("five are held") };
        assert!(released(&busy.backend, gone).await);
        busy.backend.abandon(abandoned.lock_id, &abandoned.key).await.unwrap();
        let never = ask("never acquired", LONG);
        busy.block_all().await;
        let mut not_held = Vec::new();
        for request in [gone, abandoned, &never] {
            not_held.push(busy.begin_extend_in(request, 1).await);
        }
        let mut extending = Vec::new();
        for request in others {
            extending.push(busy.begin_extend_in(request, 2).await);
        }
        let longer = busy.begin_extend(twice, Duration::from_secs(3), ttl(LONG * 10)).await;
        let shorter = busy.begin_extend_in(twice, 4).await;
        busy.unblock_all().await;
        for extending in not_held {
            assert_eq!(expiry(extending).await, None);
        }
        for extending in extending {
            assert!(expiry(extending).await.is_some());
        }
        let (longer, shorter) = (expiry(longer).await.unwrap(), expiry(shorter).await.unwrap());
        assert!(longer.since(shorter) > LONG * 8, "two extends of one grant had one outcome");
    }
}

/// If the server rejects one extend of a statement, it undoes the whole statement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_extend_that_the_server_rejects_does_not_fail_the_others_of_its_batch() {
    let server = shared().await;
    for (names, config) in configs(&server) {
        let mut busy = BusyBackend::new(&server, names, config).await;
        let requests = busy.acquire_many(5).await;
        let (locks, id) = (&busy.names.locks, requests[0].lock_id.as_str());
        let refuse = format!("ALTER TABLE {locks} ADD CHECK (lock_id <> '{id}') NOT VALID");
        Foreign::open(&server.url()).await.run(&refuse).await;
        busy.block_all().await;
        let mut extending = Vec::new();
        for request in &requests {
            extending.push(busy.begin_extend_in(request, 1).await);
        }
        busy.unblock_all().await;
        let mut extending = extending.into_iter();
        let error = extending.next().unwrap().await.unwrap().unwrap_err();
        assert!(!error.may_have_applied(), "{error:?}");
        for extending in extending {
            assert!(expiry(extending).await.is_some());
        }
    }
}
