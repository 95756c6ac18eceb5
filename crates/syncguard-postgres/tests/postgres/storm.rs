//! This client and the TypeScript client on the same tables at the same time.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::Row;
use syncguard_core::{
    LockId, ReleaseOutcome,
    backend::{AcquireOutcome, LockBackend},
};
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::{
    operations::{ask, lock_of},
    server::PostgresServer,
};

use crate::{Foreign, Names, shared};

const KEYS: usize = 4;
const TASKS: usize = 16;
const TTL: Duration = Duration::from_millis(20);
const GRANTS: usize = 20_000;
/// The number of grants that even a busy machine must reach in this time.
const MIN_GRANTS: usize = 1_000;
/// How long a contender pauses after it found a key held.
const PAUSE: Duration = Duration::from_millis(2);

/// The maximum duration. An idle machine takes half a minute.
const MAX_DURATION: Duration = Duration::from_secs(90);

/// One hold, in microseconds of the server's clock.
#[derive(Clone, Debug)]
struct Hold {
    entered: i64,
    left: i64,
    /// The end of the grant. A task may be suspended past its ttl.
    over: i64,
    fence: u64,
    /// Whether the holder lost its lock before the end of the grant.
    lost_early: bool,
}

/// The record of all holds, and the signal to stop.
#[derive(Default)]
struct Journal {
    holds: Mutex<BTreeMap<String, Vec<Hold>>>,
    count: AtomicUsize,
    stop: AtomicBool,
}

impl Journal {
    fn record(&self, text: &str, hold: Hold) {
        self.holds.lock().unwrap().entry(text.to_owned()).or_default().push(hold);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns whether a holder is to skip its release, which blocks its key for a second.
    fn skips_release(&self) -> bool {
        self.count.load(Ordering::Relaxed) % 1_000 == 999
    }

    fn continues(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Returns the violations of mutual exclusion.
    fn flaws(&self) -> Vec<String> {
        let mut flaws = Vec::new();
        for (text, holds) in self.holds.lock().unwrap().iter_mut() {
            holds.retain(|hold| hold.entered < hold.over);
            holds.sort_by_key(|hold| hold.entered);
            for pair in holds.windows(2) {
                if pair[1].entered < pair[0].left.min(pair[0].over) {
                    flaws.push(format!("{text}: overlap {pair:?}"));
                }
                if pair[1].fence <= pair[0].fence {
                    flaws.push(format!("{text}: fence {pair:?}"));
                }
            }
            let lost_early = holds.iter().filter(|hold| hold.lost_early);
            flaws.extend(lost_early.map(|hold| format!("{text}: robbed {hold:?}")));
        }
        flaws
    }
}

/// Returns the end of a grant, including its grace period, in microseconds.
fn over(expires_ms: i64) -> i64 {
    (expires_ms + 1_000) * 1_000
}

async fn server_micros(foreign: &mut Foreign) -> i64 {
    foreign.number("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").await
}

fn key_of(names: &Names, number: usize) -> String {
    format!("{} {}", names.locks, number % KEYS)
}

/// A task of this backend.
async fn ours(backend: PostgresBackend, url: String, names: Names, journal: Arc<Journal>) {
    let mut foreign = Foreign::open(&url).await;
    for number in 0.. {
        if !journal.continues() {
            return;
        }
        let request = ask(&key_of(&names, number), TTL);
        let AcquireOutcome::Granted(grant) = backend.acquire(&request).await.unwrap() else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let entered = server_micros(&mut foreign).await;
        let left = server_micros(&mut foreign).await;
        let over = over(grant.expires_at.unix_millis());
        let released = journal.skips_release()
            || backend.release(&lock_of(&request)).await.unwrap() == ReleaseOutcome::Released;
        let lost_early = !released && server_micros(&mut foreign).await < over;
        let fence = grant.fence.number();
        journal.record(request.key.as_str(), Hold { entered, left, over, fence, lost_early });
    }
}

/// A task that runs the statements of the TypeScript client.
async fn theirs(url: String, names: Names, journal: Arc<Journal>) {
    let mut foreign = Foreign::open(&url).await;
    for number in 0.. {
        if !journal.continues() {
            return;
        }
        let (text, id) = (key_of(&names, number), LockId::mint().unwrap());
        let Some((fence, expires)) =
            typescript_acquire(&mut foreign, &names, &text, id.as_str()).await
        else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let entered = server_micros(&mut foreign).await;
        let left = server_micros(&mut foreign).await;
        let over = over(expires);
        if !journal.skips_release() {
            typescript_release(&mut foreign, &names, id.as_str()).await;
        }
        journal.record(&text, Hold { entered, left, over, fence, lost_early: false });
    }
}

/// The transaction of the TypeScript client: eight round trips.
pub(crate) async fn typescript_acquire(
    foreign: &mut Foreign,
    names: &Names,
    text: &str,
    id: &str,
) -> Option<(u64, i64)> {
    let now = "floor(extract(epoch FROM now()) * 1000)::bigint";
    let (locks, counters) = (&names.locks, &names.counters);
    foreign.run("BEGIN").await;
    foreign.run(&format!("SELECT pg_advisory_xact_lock(hashtext('{text}'))")).await;
    let live = format!(
        "SELECT count(*) FROM {locks} WHERE key = '{text}' AND expires_at_ms > {now} - 1000"
    );
    if foreign.number(&live).await > 0 {
        foreign.run("ROLLBACK").await;
        return None;
    }
    let count = format!(
        "INSERT INTO {counters} (fence_key, fence, key_debug) VALUES ('fence:{text}', 1, '{text}')
         ON CONFLICT (fence_key) DO UPDATE SET fence = {counters}.fence + 1 RETURNING fence"
    );
    let fence = foreign.number(&count).await;
    let upsert = format!(
        "INSERT INTO {locks} (key, lock_id, expires_at_ms, acquired_at_ms, fence, user_key)
         VALUES ('{text}', '{id}', {now} + {ttl}, {now}, lpad('{fence}', 15, '0'), '{text}')
         ON CONFLICT (key) DO UPDATE SET lock_id = EXCLUDED.lock_id,
             expires_at_ms = EXCLUDED.expires_at_ms, acquired_at_ms = EXCLUDED.acquired_at_ms,
             fence = EXCLUDED.fence, user_key = EXCLUDED.user_key
         RETURNING expires_at_ms",
        ttl = TTL.as_millis()
    );
    let expires = foreign.number(&upsert).await;
    foreign.run("COMMIT").await;
    Some((u64::try_from(fence).unwrap(), expires))
}

pub(crate) async fn typescript_release(foreign: &mut Foreign, names: &Names, id: &str) {
    let locks = &names.locks;
    foreign.run("BEGIN").await;
    foreign.run(&format!("SELECT * FROM {locks} WHERE lock_id = '{id}' FOR UPDATE")).await;
    foreign.run(&format!("DELETE FROM {locks} WHERE lock_id = '{id}'")).await;
    foreign.run("COMMIT").await;
}

async fn set_up(server: &PostgresServer) -> (Names, Arc<Journal>) {
    let names = Names::fresh();
    PostgresBackend::setup_schema(&names.config(&server.url())).await.unwrap();
    (names, Arc::default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_clients_exclude_each_other() {
    let server = shared().await;
    let (names, journal) = set_up(&server).await;
    let backend =
        PostgresBackend::connect(names.config(&server.url()).max_connections(16)).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..TASKS {
        tasks.spawn(ours(backend.clone(), server.url(), names.clone(), journal.clone()));
        tasks.spawn(theirs(server.url(), names.clone(), journal.clone()));
    }
    let begun = Instant::now();
    while journal.count.load(Ordering::Relaxed) < GRANTS && begun.elapsed() < MAX_DURATION {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    journal.stop.store(true, Ordering::Relaxed);
    tasks.join_all().await;
    let flaws = journal.flaws();
    assert!(flaws.is_empty(), "{} flaws, such as {:?}", flaws.len(), flaws.first());
    let count = journal.count.load(Ordering::Relaxed);
    assert!(count >= MIN_GRANTS, "only {count} grants");
}

/// The acquire of this backend, on the columns of the TypeScript client.
pub(crate) fn acquire_text(names: &Names) -> String {
    include_str!("../../src/sql/acquire.sql")
        .replace("{stand}", include_str!("../../src/sql/stand.sql"))
        .replace("{own_transaction}", "true")
        .replace("{owner}", "NULL::text")
        .replace("{notifies}", "false")
        .replace("{owner_columns}", "")
        .replace("{owner_values}", "")
        .replace("{owner_updates}", "")
        .replace("{shared}", "NULL::text")
        .replace("{shared_cleared}", "")
        .replace("{locks}", &names.locks)
        .replace("{counters}", &names.counters)
}

/// The part of this backend's acquire that tries the advisory lock.
pub(crate) const TRY: &str = "pg_try_advisory_xact_lock(hashtext($1))";

/// Acquires a key with such a text. Returns the fence and the end of the grant.
pub(crate) async fn acquire_by(
    foreign: &mut Foreign,
    acquire: &str,
    text: &str,
    id: LockId,
) -> Option<(u64, i64)> {
    let query = sqlx::query(sqlx::AssertSqlSafe(acquire))
        .bind(text)
        .bind(id.as_str())
        .bind(1_000_i64)
        .bind(20_i64)
        .bind(format!("fence:{text}"))
        .bind(text)
        .bind(900_000_000_000_000_i64)
        .bind(None::<String>);
    let row = query.fetch_one(&mut foreign.0).await.unwrap();
    let fence = row.get::<Option<String>, _>("granted_fence")?;
    Some((fence.parse().unwrap(), row.get("granted_expires_at_ms")))
}

/// The same without the advisory lock.
fn without_advisory_lock(names: &Names) -> String {
    let acquire = acquire_text(names);
    assert_eq!(acquire.matches(TRY).count(), 1);
    acquire.replace(TRY, "true")
}

async fn ours_without_lock(url: String, names: Names, journal: Arc<Journal>) {
    let (mut foreign, acquire) = (Foreign::open(&url).await, without_advisory_lock(&names));
    for number in 0.. {
        if !journal.continues() {
            return;
        }
        let (text, id) = (key_of(&names, number), LockId::mint().unwrap());
        let granted = acquire_by(&mut foreign, &acquire, &text, id).await;
        let Some((fence, expires)) = granted else { continue };
        let entered = server_micros(&mut foreign).await;
        let left = server_micros(&mut foreign).await;
        let gone = format!("DELETE FROM {} WHERE lock_id = '{}'", names.locks, id.as_str());
        let deleted = sqlx::query(sqlx::AssertSqlSafe(gone)).execute(&mut foreign.0).await.unwrap();
        let lost_early = deleted.rows_affected() == 0;
        let over = over(expires);
        journal.record(&text, Hold { entered, left, over, fence, lost_early });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_advisory_lock_the_storm_finds_locks_that_were_stolen() {
    let server = shared().await;
    let (names, journal) = set_up(&server).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..TASKS {
        tasks.spawn(ours_without_lock(server.url(), names.clone(), journal.clone()));
        tasks.spawn(theirs(server.url(), names.clone(), journal.clone()));
    }
    let begun = Instant::now();
    while journal.flaws().is_empty() && begun.elapsed() < MAX_DURATION {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    journal.stop.store(true, Ordering::Relaxed);
    tasks.join_all().await;
    assert!(!journal.flaws().is_empty(), "nothing was stolen");
}
