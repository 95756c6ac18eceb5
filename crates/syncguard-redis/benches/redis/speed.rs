use std::{future::Future, sync::Arc, time::Instant};

use syncguard_core::{
    LockId, LockKey, Ttl,
    backend::{AcquireOutcome, AcquireRequest, LockBackend, LockRef, Mode},
};
use syncguard_redis::RedisBackend;
use syncguard_testkit::bench::{Bar, Table, median, to_micros};

use crate::{
    connect,
    raw::{Raw, Style},
};

pub(crate) const KEY: &str = "bench:alone:00000000";

/// The number of turns of each contestant.
const TURNS: usize = 15;

const TASKS: usize = 64;

/// The number of pairs in a turn.
const PAIRS: usize = 6_400;

/// The number of pairs that are timed one by one.
const PAIRS_ALONE: usize = 6_000;

/// The number of pairs in one reading of the processor time.
const BLOCK: usize = 200;

pub(crate) async fn measure(url: &str, table: &mut Table) {
    let (backend, raw) = (connect(url).await, Raw::connect(url).await);
    alone(&backend, &raw, table).await;
    together(&backend, &raw, table).await;
    readers(&backend, table).await;
}

/// Measures how long a pair takes with one task and no contention. Both contestants alternate pair
/// by pair, so a disturbance affects both.
async fn alone(backend: &RedisBackend, raw: &Raw, table: &mut Table) {
    let pair = raw.pair(Style::Lean).await;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    let key = LockKey::new(KEY).unwrap();
    for _ in 0..PAIRS_ALONE {
        let by_hand = async {
            let id = LockId::mint().unwrap();
            raw.acquire_and_release(&pair, KEY, id.as_str()).await;
        };
        floor.push(micros(by_hand).await);
        ours.push(micros(acquire_and_release(backend, &key)).await);
    }
    let (mut our_processor_time, mut floor_processor_time) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS_ALONE / BLOCK {
        let before = processor_micros();
        for _ in 0..BLOCK {
            let id = LockId::mint().unwrap();
            raw.acquire_and_release(&pair, KEY, id.as_str()).await;
        }
        let between = processor_micros();
        for _ in 0..BLOCK {
            acquire_and_release(backend, &key).await;
        }
        floor_processor_time.push((between - before) / BLOCK as f64);
        our_processor_time.push((processor_micros() - between) / BLOCK as f64);
    }
    table.note("  … processor time of the client, by hand", median(floor_processor_time), "µs");
    table.note("  … processor time of the client", median(our_processor_time), "µs");
    let (ours, floor) = (median(ours), median(floor));
    table.note("acquire + release, one task, by hand, p50", floor, "µs");
    table.note("acquire + release, one task, p50", ours, "µs");
    table.judge("  … beside the floor", ours / floor, "×", Bar::AtMost(1.15));
}

/// Measures how many pairs a second 64 tasks complete, each with its own key.
async fn together(backend: &RedisBackend, raw: &Raw, table: &mut Table) {
    let styles = [Style::Lean, Style::Cjson, Style::FenceOnly];
    let mut pairs = Vec::new();
    for style in styles {
        pairs.push(Arc::new(raw.pair(style).await));
    }
    let mut turns = Vec::new();
    raw.script_time().await;
    for _ in 0..TURNS {
        let mut turn = Turn::default();
        for (place, pair) in pairs.iter().enumerate() {
            let (hand, pair) = (raw.clone(), pair.clone());
            let work = move |key: LockKey| {
                let (raw, pair) = (hand.clone(), pair.clone());
                async move {
                    let id = LockId::mint().unwrap();
                    raw.acquire_and_release(&pair, key.as_str(), id.as_str()).await;
                }
            };
            turn.speeds[place] = per_second(work).await;
            turn.scripts[place] = raw.script_time().await / PAIRS as f64;
        }
        let backend = backend.clone();
        let work = move |key: LockKey| {
            let backend = backend.clone();
            async move { acquire_and_release(&backend, &key).await }
        };
        turn.speeds[3] = per_second(work).await;
        // Read after each contestant, so that no time of one is counted for the next.
        turn.scripts[3] = raw.script_time().await / PAIRS as f64;
        turns.push(turn);
    }
    judge_together(&turns, table);
}

/// The results of one turn: by hand in the order of the styles, then by the backend.
#[derive(Default)]
struct Turn {
    speeds: [f64; 4],
    scripts: [f64; 4],
}

/// Compares the contestants within each turn, and reports the best turn of each.
fn judge_together(turns: &[Turn], table: &mut Table) {
    let best = |place: usize| turns.iter().map(|turn| turn.speeds[place]).fold(0.0, f64::max);
    let script = |place: usize| median(turns.iter().map(|turn| turn.scripts[place]).collect());
    let beside = |place: usize, other: usize| {
        median(turns.iter().map(|turn| turn.speeds[place] / turn.speeds[other]).collect())
    };
    table.note("64 tasks, by hand, best turn", best(0), "pairs/s");
    table.note("64 tasks, best turn", best(3), "pairs/s");
    table.judge("  … beside the floor, median turn", beside(3, 0), "×", Bar::AtLeast(0.90));
    table.note("64 tasks, plain cjson scripts by hand, best turn", best(1), "pairs/s");
    table.judge(
        "  … what the lean scripts gain, median turn",
        beside(0, 1),
        "×",
        Bar::AtLeast(1.5),
    );
    table.note("64 tasks, nothing but a fence, by hand, best turn", best(2), "pairs/s");
    table.note("the server's time in the scripts of a pair, by hand", script(0), "µs");
    table.note("the server's time in the scripts of a pair", script(3), "µs");
    table.note("the server's time in the plain cjson scripts of a pair", script(1), "µs");
    table.note("  … what the lean scripts gain there", script(1) / script(0), "×");
}

/// Measures how many pairs a second 64 readers of one key complete, beside 64 exclusive locks.
async fn readers(backend: &RedisBackend, table: &mut Table) {
    let (mut shares, mut best) = (Vec::new(), 0.0_f64);
    for _ in 0..TURNS {
        let (alone, reading) = (backend.clone(), backend.clone());
        let exclusive = per_second(move |key: LockKey| {
            let backend = alone.clone();
            async move { acquire_and_release(&backend, &key).await }
        });
        let exclusive = exclusive.await;
        let shared = per_second(move |_| {
            let backend = reading.clone();
            async move {
                let key = LockKey::new(KEY).unwrap();
                pair(&backend, request(&key).with_mode(Mode::SHARED)).await;
            }
        });
        let shared = shared.await;
        shares.push(shared / exclusive);
        best = best.max(shared);
    }
    table.note("64 readers of one key, best turn", best, "pairs/s");
    table.judge(
        "  … beside 64 exclusive locks, median turn",
        median(shares),
        "×",
        Bar::AtLeast(0.5),
    );
}

fn request(key: &LockKey) -> AcquireRequest {
    AcquireRequest::new(key.clone(), LockId::mint().unwrap(), Ttl::default())
}

pub(crate) async fn acquire_and_release(backend: &RedisBackend, key: &LockKey) {
    pair(backend, request(key)).await;
}

async fn pair(backend: &RedisBackend, request: AcquireRequest) {
    let outcome = backend.acquire(&request).await.unwrap();
    assert!(matches!(outcome, AcquireOutcome::Granted(_)), "{outcome:?}");
    backend.release(&LockRef::new(request.lock_id, request.key)).await.unwrap();
}

async fn per_second<F: Future<Output = ()> + Send + 'static>(
    work: impl Fn(LockKey) -> F + Clone + Send + 'static,
) -> f64 {
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let work = work.clone();
        tasks.spawn(async move {
            let key = LockKey::new(&format!("bench:task:{task:09}")).unwrap();
            for _ in 0..PAIRS / TASKS {
                work(key.clone()).await;
            }
        });
    }
    tasks.join_all().await;
    PAIRS as f64 / start.elapsed().as_secs_f64()
}

/// Returns the microseconds for which this thread, which is the whole client, has been on a
/// processor. Unlike elapsed time, this hardly depends on the load of the machine.
fn processor_micros() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e3
}

async fn micros(work: impl Future<Output = ()>) -> f64 {
    let start = Instant::now();
    work.await;
    to_micros(start.elapsed())
}
