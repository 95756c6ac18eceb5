//! Extends that wait for a connection are sent together.

use std::{future::poll_fn, task::Poll, time::Duration};

use syncguard_core::{
    AcquireRequest, Error, ExtendOutcome, LockBackend, LockId, LockManager, Timestamp, Ttl,
};
use syncguard_postgres::{PostgresBackend, PostgresConfig};
use syncguard_testkit::{
    operations::{LONG, ask, eventually, granted, lock_of, released, ttl},
    server::PostgresServer,
};
use tokio::task::{JoinHandle, yield_now};

use crate::{Foreign, Names, queueing::hold_turn, shared};

/// How many extends one statement carries.
const BATCH_SIZE: usize = 64;

/// The connections of a backend.
const CONNECTIONS: u32 = 2;

/// A backend with connections that can all be made to wait inside the server.
struct Crowded<'a> {
    server: &'a PostgresServer,
    names: Names,
    backend: PostgresBackend,
    occupied: usize,
    waiting: Vec<(Foreign, Extending)>,
}

type Extending = JoinHandle<Result<ExtendOutcome, Error>>;

impl<'a> Crowded<'a> {
    async fn new(server: &'a PostgresServer, names: Names, config: PostgresConfig) -> Self {
        let config = config.max_connections(CONNECTIONS).lock_timeout(LONG).statement_timeout(LONG);
        let backend = PostgresBackend::connect(config).await.unwrap();
        Self { server, names, backend, occupied: 0, waiting: Vec::new() }
    }

    /// Acquires so many locks.
    async fn held(&self, count: usize) -> Vec<AcquireRequest> {
        let mut requests = Vec::new();
        for number in 0..count {
            let request = ask(&format!("{} held {number}", self.names.locks), LONG);
            granted(&self.backend, &request).await;
            requests.push(request);
        }
        requests
    }

    /// Begins an extend. It is in the queue, or sent, when this returns.
    async fn extends(&self, request: &AcquireRequest, left: Duration, ttl: Ttl) -> Extending {
        let (backend, lock) = (self.backend.clone(), lock_of(request).with_time_left(left));
        let mut extending = Box::pin(async move { backend.extend(&lock, ttl).await });
        assert!(
            poll_fn(|context| Poll::Ready(extending.as_mut().poll(context).is_pending())).await
        );
        tokio::spawn(extending)
    }

    async fn extends_in(&self, request: &AcquireRequest, seconds: u64) -> Extending {
        self.extends(request, Duration::from_secs(seconds), ttl(LONG)).await
    }

    /// Makes all connections wait.
    async fn occupy(&mut self) {
        for _ in 0..CONNECTIONS {
            let text = format!("{} occupied {}", self.names.locks, self.occupied);
            let request = ask(&text, LONG);
            // Before the first connection waits, so that there is one for the acquire.
            self.occupied += 1;
            granted_elsewhere(self, &request).await;
            let turn = hold_turn(self.server, &text).await;
            self.waiting.push((turn, self.extends_in(&request, 0).await));
            self.until_waiting(self.waiting.len()).await;
        }
    }

    async fn until_waiting(&self, count: usize) {
        let mut foreign = Foreign::open(&self.server.url()).await;
        let waiting = format!(
            "SELECT count(*) FROM pg_stat_activity
             WHERE wait_event = 'advisory' AND query LIKE '%{}%'",
            self.names.locks
        );
        let count = i64::try_from(count).unwrap();
        eventually("they wait", async || foreign.number(&waiting).await >= count).await;
    }

    /// Lets one connection go on.
    async fn free(&mut self) {
        let (mut turn, extending) = self.waiting.pop().unwrap();
        turn.run("COMMIT").await;
        assert!(expiry(extending).await.is_some());
    }

    async fn free_all(&mut self) {
        while !self.waiting.is_empty() {
            self.free().await;
        }
    }

    /// Gives the transaction that last wrote the row of a grant.
    async fn writer(&self, foreign: &mut Foreign, lock_id: LockId) -> i64 {
        let (locks, id) = (&self.names.locks, lock_id.as_str());
        let row = format!("SELECT xmin::text::bigint FROM {locks} WHERE lock_id = '{id}'");
        foreign.number(&row).await
    }
}

/// Over another backend: an acquire never has the last connection.
async fn granted_elsewhere(crowded: &Crowded<'_>, request: &AcquireRequest) {
    granted(&crowded.names.connect(&crowded.server.url()).await, request).await;
}

async fn expiry(extending: Extending) -> Option<Timestamp> {
    match extending.await.unwrap().unwrap() {
        ExtendOutcome::Extended { expires_at } => Some(expires_at),
        ExtendOutcome::NotHeld(_) => None,
    }
}

/// Both ways of sending statements.
fn configs(server: &PostgresServer) -> [(Names, PostgresConfig); 2] {
    [false, true].map(|whole| {
        let names = Names::fresh();
        let config = names.config(&server.url());
        (names, if whole { config.pgbouncer() } else { config })
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extends_that_wait_for_a_connection_are_sent_together_the_most_urgent_first() {
    let server = shared().await;
    for (names, config) in configs(&server) {
        let mut crowded = Crowded::new(&server, names, config).await;
        let requests = crowded.held(3 * BATCH_SIZE - 1).await;
        crowded.occupy().await;
        let mut extending = Vec::new();
        // Those that are needed last come first.
        for (seconds, request) in (1..).zip(&requests).collect::<Vec<_>>().into_iter().rev() {
            extending.push(crowded.extends_in(request, seconds).await);
        }
        // Over one connection, one statement after the other.
        crowded.free().await;
        for extending in extending {
            assert!(expiry(extending).await.is_some());
        }
        let (mut writers, mut foreign) = (Vec::new(), Foreign::open(&server.url()).await);
        for request in &requests {
            writers.push(crowded.writer(&mut foreign, request.lock_id).await);
        }
        assert!(writers.is_sorted(), "the most urgent were not first: {writers:?}");
        writers.dedup();
        assert_eq!(writers.len(), 3, "they were not sent together");
        crowded.free().await;
    }
}

#[tokio::test]
async fn the_extend_of_a_guard_that_has_time_left_comes_after_those_that_have_less() {
    let (server, names) = (shared().await, Names::fresh());
    let config = names.config(&server.url());
    let mut crowded = Crowded::new(&server, names, config).await;
    let requests = crowded.held(BATCH_SIZE).await;
    let locks = LockManager::new(crowded.backend.clone());
    let guard = locks.lock("long").ttl(LONG * 10).acquire().await.unwrap();
    let id = guard.lock_id();
    crowded.occupy().await;
    let first = tokio::spawn(async move { guard.extend(LONG * 10).await.map(|()| guard) });
    // It is in the queue when all tasks that can have run.
    for _ in 0..100 {
        yield_now().await;
    }
    let mut extending = Vec::new();
    for request in &requests {
        extending.push(crowded.extends_in(request, LONG.as_secs()).await);
    }
    crowded.free().await;
    let guard = first.await.unwrap().unwrap();
    for extending in extending {
        assert!(expiry(extending).await.is_some());
    }
    let mut foreign = Foreign::open(&server.url()).await;
    let last = crowded.writer(&mut foreign, id).await;
    for request in &requests {
        assert!(crowded.writer(&mut foreign, request.lock_id).await < last);
    }
    crowded.free().await;
    guard.release().await.unwrap();
}

/// Another client may have a key or a row for as long as it likes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_extend_that_has_to_wait_does_not_hold_up_those_it_is_sent_with() {
    let server = shared().await;
    for (names, config) in configs(&server) {
        let mut crowded = Crowded::new(&server, names, config).await;
        let requests = crowded.held(10).await;
        let [by_key, by_row, others @ ..] = &requests[..] else { panic!("ten are held") };
        let mut row = Foreign::open(&server.url()).await;
        let (locks, id) = (&crowded.names.locks, by_row.lock_id.as_str());
        row.run(&format!("BEGIN; SELECT 1 FROM {locks} WHERE lock_id = '{id}' FOR UPDATE")).await;
        let key = hold_turn(&server, by_key.key.as_str()).await;
        for (mut foreign, held_up) in [(key, by_key), (row, by_row)] {
            crowded.occupy().await;
            let held_up = crowded.extends_in(held_up, 0).await;
            let mut extending = Vec::new();
            for request in others {
                extending.push(crowded.extends_in(request, 1).await);
            }
            crowded.free_all().await;
            for extending in extending {
                assert!(expiry(extending).await.is_some());
            }
            assert!(!held_up.is_finished());
            foreign.run("COMMIT").await;
            assert!(expiry(held_up).await.is_some());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_extend_that_is_sent_with_others_has_its_own_outcome() {
    let server = shared().await;
    for (names, config) in configs(&server) {
        let mut crowded = Crowded::new(&server, names, config).await;
        let requests = crowded.held(5).await;
        let [gone, abandoned, twice, others @ ..] = &requests[..] else { panic!("five are held") };
        assert!(released(&crowded.backend, gone).await);
        crowded.backend.abandon(abandoned.lock_id, &abandoned.key).await.unwrap();
        let never = ask("never acquired", LONG);
        crowded.occupy().await;
        let mut not_held = Vec::new();
        for request in [gone, abandoned, &never] {
            not_held.push(crowded.extends_in(request, 1).await);
        }
        let mut extending = Vec::new();
        for request in others {
            extending.push(crowded.extends_in(request, 2).await);
        }
        let longer = crowded.extends(twice, Duration::from_secs(3), ttl(LONG * 10)).await;
        let shorter = crowded.extends_in(twice, 4).await;
        crowded.free_all().await;
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

/// What the server refuses undoes a statement as a whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_extend_that_the_server_refuses_does_not_fail_those_it_is_sent_with() {
    let server = shared().await;
    for (names, config) in configs(&server) {
        let mut crowded = Crowded::new(&server, names, config).await;
        let requests = crowded.held(5).await;
        let (locks, id) = (&crowded.names.locks, requests[0].lock_id.as_str());
        let refuse = format!("ALTER TABLE {locks} ADD CHECK (lock_id <> '{id}') NOT VALID");
        Foreign::open(&server.url()).await.run(&refuse).await;
        crowded.occupy().await;
        let mut extending = Vec::new();
        for request in &requests {
            extending.push(crowded.extends_in(request, 1).await);
        }
        crowded.free_all().await;
        let mut extending = extending.into_iter();
        let error = extending.next().unwrap().await.unwrap().unwrap_err();
        assert!(!error.may_have_applied(), "{error:?}");
        for extending in extending {
            assert!(expiry(extending).await.is_some());
        }
    }
}
