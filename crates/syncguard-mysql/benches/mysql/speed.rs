use std::{
    future::Future,
    time::{Duration, Instant},
};

use syncguard_core::{
    LockId, LockKey, Ttl,
    backend::{AcquireOutcome, AcquireRequest, LockBackend, LockRef},
};
use syncguard_mysql::MysqlBackend;
use syncguard_testkit::{
    bench::{Bar, Table, median},
    proxy::Proxy,
    server::MariadbServer,
};

use crate::{connect, raw::Raw};

const KEY: &str = "bench:alone:00000000";

/// The number of turns of each variant. The best turn counts, because disturbances only slow a
/// turn.
const TURNS: usize = 9;
const PAIRS: usize = 1_000;

/// The number of rounds that measure contended attempts, each on new connections.
const ROUNDS: usize = 21;

/// The round-trip time to a server on another host.
const ROUND_TRIP: Duration = Duration::from_millis(2);
const REMOTE_PAIRS: usize = 50;

/// Measures one connection without contention, and contended attempts.
pub(crate) async fn measure(server: &MariadbServer, table: &mut Table) {
    let [ours, by_hand, transaction] = pairs(&server.url(), PAIRS, TURNS).await;
    table.note("acquire + release, one connection, a transaction by hand", transaction, "µs");
    table.note("acquire + release, one connection, by hand", by_hand, "µs");
    table.note("acquire + release, one connection", ours, "µs");
    table.judge("  … beside by hand", ours / by_hand, "×", Bar::AtMost(1.15));
    let proxy = Proxy::start(server.address()).await.unwrap();
    proxy.delay(ROUND_TRIP / 2);
    let [ours, _, transaction] = pairs(&server.url_through(proxy.address()), REMOTE_PAIRS, 3).await;
    table.note("the same 2 ms away, a transaction by hand", transaction, "µs");
    table.note("the same 2 ms away", ours, "µs");
    table.judge("  … beside the transaction", ours / transaction, "×", Bar::AtMost(0.6));
    contended(&server.url(), table).await;
}

/// Returns the mean time of an acquire and a release: by the backend, by its statements, by a
/// transaction.
async fn pairs(url: &str, pairs: usize, turns: usize) -> [f64; 3] {
    let (backend, mut raw) = (connect(url, 2).await, Raw::connect(url).await);
    let key = LockKey::new(KEY).unwrap();
    let [mut ours, mut by_hand, mut transaction] = [f64::MAX; 3];
    for _ in 0..turns {
        let start = Instant::now();
        for _ in 0..pairs {
            pair(&backend, &key).await;
        }
        ours = ours.min(each(start, pairs));
        let start = Instant::now();
        for _ in 0..pairs {
            raw.acquire_and_release(KEY).await;
        }
        by_hand = by_hand.min(each(start, pairs));
        let start = Instant::now();
        for _ in 0..pairs {
            raw.transaction_and_release(KEY).await;
        }
        transaction = transaction.min(each(start, pairs));
    }
    [ours, by_hand, transaction]
}

fn each(start: Instant, pairs: usize) -> f64 {
    start.elapsed().as_secs_f64() * 1e6 / pairs as f64
}

pub(crate) async fn pair(backend: &MysqlBackend, key: &LockKey) {
    let request = request(key);
    let outcome = backend.acquire(&request).await.unwrap();
    assert!(matches!(outcome, AcquireOutcome::Granted(_)), "{outcome:?}");
    backend.release(&LockRef::new(request.lock_id, request.key)).await.unwrap();
}

/// Measures attempts at a held key, in turns with other statements. Each round uses new
/// connections, because the processor on which the server runs each of them matters much.
async fn contended(url: &str, table: &mut Table) {
    let key = LockKey::new(KEY).unwrap();
    let (held, holder) = (request(&key), connect(url, 2).await);
    assert!(matches!(holder.acquire(&held).await.unwrap(), AcquireOutcome::Granted(_)));
    let mut medians = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        let (backend, mut raw) = (connect(url, 2).await, Raw::connect(url).await);
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..PAIRS / 2 {
            let request = request(&key);
            times[0].push(micros(raw.read_row(KEY)).await);
            times[1].push(micros(raw.attempt(KEY, request.lock_id)).await);
            times[2].push(micros(backend.acquire(&request)).await);
        }
        for (medians, times) in medians.iter_mut().zip(times) {
            medians.push(median(times));
        }
    }
    let [read, by_hand, ours] = medians.map(median);
    table.note("a look at the row, prepared, by hand, median of p50", read, "µs");
    table.note("contended attempt, by hand, median of p50", by_hand, "µs");
    table.note("contended attempt, median of p50", ours, "µs");
    holder.release(&LockRef::new(held.lock_id, held.key)).await.unwrap();
}

fn request(key: &LockKey) -> AcquireRequest {
    AcquireRequest::new(key.clone(), LockId::mint().unwrap(), Ttl::default())
}

async fn micros<T>(work: impl Future<Output = T>) -> f64 {
    let start = Instant::now();
    work.await;
    start.elapsed().as_secs_f64() * 1e6
}
