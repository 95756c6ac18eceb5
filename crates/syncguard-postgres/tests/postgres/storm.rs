//! This client and the TypeScript client on the same tables at the same time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::Row;
use syncguard_core::{
    LockId, ReleaseOutcome,
    backend::{AcquireOutcome, LockBackend, Mode},
};
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::{
    operations::{ask, lock_of},
    server::PostgresServer,
};

use crate::{
    Foreign, Names,
    holds::{Hold, Journal, over, server_micros},
    peer::{typescript_acquire, typescript_release},
    shared,
};

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

/// The record of all holds, and of how many there are.
#[derive(Default)]
struct Storm {
    journal: Journal,
    grants: AtomicUsize,
}

impl Storm {
    /// Returns whether a holder is to skip its release, which blocks its key for a second.
    fn skips_release(&self) -> bool {
        self.grants.load(Ordering::Relaxed) % 1_000 == 999
    }

    fn record(&self, text: &str, hold: Hold) {
        self.journal.record(text, hold);
        self.grants.fetch_add(1, Ordering::Relaxed);
    }
}

fn key_of(names: &Names, number: usize) -> String {
    format!("{} {}", names.locks, number % KEYS)
}

/// A task of this backend.
async fn ours(backend: PostgresBackend, url: String, names: Names, storm: Arc<Storm>) {
    let mut foreign = Foreign::open(&url).await;
    for number in 0.. {
        if !storm.journal.continues() {
            return;
        }
        let request = ask(&key_of(&names, number), TTL);
        let AcquireOutcome::Granted(grant) = backend.acquire(&request).await.unwrap() else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let over = over(grant.expires_at.unix_millis());
        let mut hold = entered(&mut foreign, "rust", grant.fence.number(), over).await;
        if storm.skips_release() {
            hold.left = over;
        } else if backend.release(&lock_of(&request)).await.unwrap() != ReleaseOutcome::Released {
            hold.lost_early = server_micros(&mut foreign).await < over;
        }
        storm.record(request.key.as_str(), hold);
    }
}

/// A task that runs the statements of the TypeScript client.
async fn theirs(url: String, names: Names, storm: Arc<Storm>) {
    let mut foreign = Foreign::open(&url).await;
    for number in 0.. {
        if !storm.journal.continues() {
            return;
        }
        let (text, id) = (key_of(&names, number), LockId::mint().unwrap());
        let Some((fence, expires)) =
            typescript_acquire(&mut foreign, &names, &text, id.as_str()).await
        else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let mut hold = entered(&mut foreign, "typescript", fence, over(expires)).await;
        if storm.skips_release() {
            hold.left = hold.over;
        } else if !typescript_release(&mut foreign, &names, id.as_str()).await {
            hold.lost_early = server_micros(&mut foreign).await < hold.over;
        }
        storm.record(&text, hold);
    }
}

/// Returns the hold of a grant that a client leaves at once.
async fn entered(foreign: &mut Foreign, who: &'static str, fence: u64, over: i64) -> Hold {
    let (mode, lost_early) = (Mode::Exclusive, false);
    let entered = server_micros(foreign).await;
    Hold { who, mode, entered, left: server_micros(foreign).await, over, fence, lost_early }
}

async fn set_up(server: &PostgresServer) -> (Names, Arc<Storm>) {
    let names = Names::fresh();
    PostgresBackend::setup_schema(&names.config(&server.url())).await.unwrap();
    (names, Arc::default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_clients_exclude_each_other() {
    let server = shared().await;
    let (names, storm) = set_up(&server).await;
    let backend =
        PostgresBackend::connect(names.config(&server.url()).max_connections(16)).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..TASKS {
        tasks.spawn(ours(backend.clone(), server.url(), names.clone(), storm.clone()));
        tasks.spawn(theirs(server.url(), names.clone(), storm.clone()));
    }
    let begun = Instant::now();
    while storm.grants.load(Ordering::Relaxed) < GRANTS && begun.elapsed() < MAX_DURATION {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    storm.journal.stop();
    tasks.join_all().await;
    let flaws = storm.journal.flaws();
    assert!(flaws.is_empty(), "{} flaws, such as {:?}", flaws.len(), flaws.first());
    let count = storm.grants.load(Ordering::Relaxed);
    assert!(count >= MIN_GRANTS, "only {count} grants");
}

/// The acquire of this backend, on the columns of the TypeScript client.
pub(crate) fn acquire_text(names: &Names) -> String {
    include_str!("../../src/sql/acquire.sql")
        .replace("{stand}", include_str!("../../src/sql/stand.sql"))
        .replace("{and_is_counted}", "")
        .replace("{grants}", "counted")
        .replace("{first_fence}", "1")
        .replace("{next_fence}", "seen.fence + 1")
        .replace("{seen_fence}", "excluded.fence - 1")
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

async fn ours_without_lock(url: String, names: Names, storm: Arc<Storm>) {
    let (mut foreign, acquire) = (Foreign::open(&url).await, without_advisory_lock(&names));
    for number in 0.. {
        if !storm.journal.continues() {
            return;
        }
        let (text, id) = (key_of(&names, number), LockId::mint().unwrap());
        let granted = acquire_by(&mut foreign, &acquire, &text, id).await;
        let Some((fence, expires)) = granted else { continue };
        let mut hold = entered(&mut foreign, "rust", fence, over(expires)).await;
        let gone = format!("DELETE FROM {} WHERE lock_id = '{}'", names.locks, id.as_str());
        let deleted = sqlx::query(sqlx::AssertSqlSafe(gone)).execute(&mut foreign.0).await.unwrap();
        hold.lost_early = deleted.rows_affected() == 0;
        storm.record(&text, hold);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_advisory_lock_the_storm_finds_locks_that_were_stolen() {
    let server = shared().await;
    let (names, storm) = set_up(&server).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..TASKS {
        tasks.spawn(ours_without_lock(server.url(), names.clone(), storm.clone()));
        tasks.spawn(theirs(server.url(), names.clone(), storm.clone()));
    }
    let begun = Instant::now();
    while storm.journal.flaws().is_empty() && begun.elapsed() < MAX_DURATION {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    storm.journal.stop();
    tasks.join_all().await;
    assert!(!storm.journal.flaws().is_empty(), "nothing was stolen");
}
