use std::time::Instant;

use fred::types::Value;
use syncguard_core::{
    LockId, LockKey, Ttl,
    backend::{AcquireOutcome, AcquireRequest, LockBackend},
};
use syncguard_redis::RedisBackend;
use syncguard_testkit::{
    bench::{Bar, Table, median, to_micros},
    server::RedisServer,
};

use crate::{
    connect,
    raw::Raw,
    speed::{KEY, acquire_and_release},
};

const SIZES: [usize; 3] = [1_000, 10_000, 100_000];

/// The number of locks whose memory is measured at each size, and the number of rounds and of timed
/// pairs in each.
const SAMPLE: usize = 500;
const ROUNDS: usize = 15;
const PAIRS: usize = 200;

/// The ratio of times at different sizes above which the difference counts as growth.
const MAX_GROWTH: f64 = 1.25;

/// Measures the memory of a held lock and the time of an operation as the number of held locks
/// grows. The round-trip time does not depend on that number, and varies more than such an effect
/// could.
pub(crate) async fn measure(server: &RedisServer, table: &mut Table) {
    server.command(&["FLUSHALL"]).await.unwrap();
    let (backend, raw) = (connect(&server.url()).await, Raw::connect(&server.url()).await);
    let (mut weights, mut times, mut held) = (Vec::new(), Vec::new(), 0);
    let empty = used_memory(&raw).await;
    for size in SIZES {
        let ids = hold(&backend, held..size).await;
        held = size;
        let sample = &ids[ids.len().saturating_sub(SAMPLE)..];
        let mut weight = 0.0;
        for (key, id) in sample {
            weight += weigh(&raw, key, *id).await;
        }
        weights.push(weight / sample.len() as f64);
        let overall = (used_memory(&raw).await - empty) / size as f64;
        let (trip, script) = pair_times(&backend, &raw).await;
        times.push(script);
        let (weight, time) = (weights[weights.len() - 1], times[times.len() - 1]);
        table.judge(
            &format!("memory of one of {size} held locks"),
            weight,
            "bytes",
            Bar::AtMost(1_024.0),
        );
        table.note("  … the server's memory divided by their number", overall, "bytes");
        table.note(&format!("acquire + release beside {size} held locks, p50"), trip, "µs");
        table.note("  … the server's time in the scripts", time, "µs");
    }
    let growth = |numbers: &[f64]| numbers[numbers.len() - 1] / numbers[0];
    table.judge("memory, from 1000 to 100000 held locks", growth(&weights), "×", Bar::AtMost(1.05));
    table.judge(
        "the server's time, from 1000 to 100000 held locks",
        growth(&times),
        "×",
        Bar::AtMost(MAX_GROWTH),
    );
}

/// Acquires locks with keys of 20 bytes.
async fn hold(backend: &RedisBackend, numbers: std::ops::Range<usize>) -> Vec<(String, LockId)> {
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..64 {
        let (backend, numbers) = (backend.clone(), numbers.clone());
        tasks.spawn(async move {
            let mut held = Vec::new();
            for number in numbers.skip(task).step_by(64) {
                let (key, id) = (format!("bench:held:{number:09}"), LockId::mint().unwrap());
                let ttl: Ttl = "1h".parse().unwrap();
                let request = AcquireRequest::new(LockKey::new(&key).unwrap(), id, ttl);
                let outcome = backend.acquire(&request).await.unwrap();
                assert!(matches!(outcome, AcquireOutcome::Granted(_)));
                held.push((key, id));
            }
            held
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

async fn weigh(raw: &Raw, key: &str, id: LockId) -> f64 {
    let lock = format!("syncguard:{key}");
    let names = [format!("syncguard:fence:{lock}"), format!("syncguard:id:{}", id.as_str()), lock];
    let mut weight = 0.0;
    for name in names {
        let Value::Integer(bytes) = raw.call("MEMORY", &["USAGE", &name]).await else {
            panic!("there is no {name}");
        };
        weight += bytes as f64;
    }
    weight
}

async fn used_memory(raw: &Raw) -> f64 {
    let info = raw.call("INFO", &["memory"]).await;
    let info = info.as_string().unwrap();
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    used.unwrap().trim().parse().unwrap()
}

/// Returns the time of a pair, and the server's time in its scripts.
async fn pair_times(backend: &RedisBackend, raw: &Raw) -> (f64, f64) {
    let key = LockKey::new(KEY).unwrap();
    let (mut trips, mut scripts) = (Vec::new(), Vec::new());
    raw.script_time().await;
    for _ in 0..ROUNDS {
        for _ in 0..PAIRS {
            let start = Instant::now();
            acquire_and_release(backend, &key).await;
            trips.push(to_micros(start.elapsed()));
        }
        scripts.push(2.0 * raw.script_time().await);
    }
    (median(trips), median(scripts))
}
