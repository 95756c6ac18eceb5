use std::{future::Future, time::Instant};

use syncguard_core::{
    LockId, LockKey, Ttl,
    backend::{AcquireOutcome, AcquireRequest, LockBackend, LockRef},
};
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::{
    bench::{Bar, Table, median},
    server::PostgresServer,
};

use crate::{
    connect, pgbench,
    raw::{Notify, Raw},
};

const KEY: &str = "bench:alone:00000000";

/// The number of turns of each variant. The best turn counts, because disturbances only slow a
/// turn.
const TURNS: usize = 9;
const PAIRS: usize = 2_000;

/// The number of rounds that measure contended attempts, each on new connections.
const ROUNDS: usize = 21;

/// Measures one connection without contention, and contended attempts.
pub(crate) async fn measure(server: &PostgresServer, table: &mut Table) {
    let backend = connect(&server.url(), 2).await;
    let mut hand = Raw::connect(&server.url(), Notify::Waiters).await;
    let key = LockKey::new(KEY).unwrap();
    let (mut ours, mut floor, mut pair, mut by_hand) = ([f64::MAX; 2], [f64::MAX; 2], 0.0, 0.0);
    for _ in 0..TURNS {
        let timed = pgbench::acquire_and_release(server, KEY, PAIRS);
        floor = [floor[0].min(timed[0]), floor[1].min(timed[1])];
        let timed = acquires_and_releases(&backend, &key).await;
        ours = [ours[0].min(timed[0]), ours[1].min(timed[1])];
        pair = ours[0] + ours[1];
        let start = Instant::now();
        for _ in 0..PAIRS {
            hand.acquire_and_release(KEY).await;
        }
        let took = start.elapsed().as_secs_f64() * 1e6 / PAIRS as f64;
        by_hand = if by_hand == 0.0 { took } else { by_hand.min(took) };
    }
    table.note("acquire, one connection, pgbench -M prepared, mean", floor[0], "µs");
    table.note("acquire, one connection, mean", ours[0], "µs");
    table.judge("  … beside the floor", ours[0] / floor[0], "×", Bar::AtMost(1.15));
    table.note("release, one connection, pgbench -M prepared, mean", floor[1], "µs");
    table.note("release, one connection, mean", ours[1], "µs");
    table.note("acquire + release, one connection, by hand", by_hand, "µs");
    table.note("acquire + release, one connection", pair, "µs");
    contended(&server.url(), table).await;
}

async fn acquires_and_releases(backend: &PostgresBackend, key: &LockKey) -> [f64; 2] {
    let mut times = [0.0; 2];
    for _ in 0..PAIRS {
        let request = request(key);
        let start = Instant::now();
        let outcome = backend.acquire(&request).await.unwrap();
        times[0] += start.elapsed().as_secs_f64();
        assert!(matches!(outcome, AcquireOutcome::Granted(_)), "{outcome:?}");
        let start = Instant::now();
        backend.release(&LockRef::new(request.lock_id, request.key)).await.unwrap();
        times[1] += start.elapsed().as_secs_f64();
    }
    times.map(|time| time * 1e6 / PAIRS as f64)
}

/// Measures attempts at a held key, in turns with other statements. Each round uses new
/// connections.
async fn contended(url: &str, table: &mut Table) {
    let key = LockKey::new(KEY).unwrap();
    let (held, holder) = (request(&key), connect(url, 2).await);
    assert!(matches!(holder.acquire(&held).await.unwrap(), AcquireOutcome::Granted(_)));
    let mut medians = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        let (backend, mut hand) = (connect(url, 2).await, Raw::connect(url, Notify::Waiters).await);
        let mut times = [const { Vec::new() }; 4];
        for _ in 0..PAIRS / 4 {
            let request = request(&key);
            times[0].push(micros(hand.run(include_str!("sql/select_one.sql"), &[])).await);
            times[1].push(micros(hand.run(include_str!("sql/index_lookup.sql"), &[KEY])).await);
            times[2].push(micros(hand.attempt(KEY, request.lock_id)).await);
            times[3].push(micros(backend.acquire(&request)).await);
        }
        for (medians, times) in medians.iter_mut().zip(times) {
            medians.push(median(times));
        }
    }
    let [nothing, lookup, first, again] = medians.map(median);
    table.note("SELECT 1, by hand, median of p50", nothing, "µs");
    table.note("SELECT 1 and an index lookup, by hand, median of p50", lookup, "µs");
    table.note("first attempt at a held key, by hand, median of p50", first, "µs");
    table.note("contended attempt, median of p50", again, "µs");
    table.judge("  … beside the lookup", again / lookup, "×", Bar::AtMost(1.3));
    holder.release(&LockRef::new(held.lock_id, held.key)).await.unwrap();
}

pub(crate) fn request(key: &LockKey) -> AcquireRequest {
    AcquireRequest::new(key.clone(), LockId::mint().unwrap(), Ttl::default())
}

async fn micros<T>(work: impl Future<Output = T>) -> f64 {
    let start = Instant::now();
    work.await;
    start.elapsed().as_secs_f64() * 1e6
}
