//! Keys in shared mode: how they are stored, and what earlier clients and damaged rows do to them.

use std::{num::NonZeroU32, pin::pin, time::Duration};

use syncguard_core::{
    Error, ErrorKind, Fence, LockId, ReleaseOutcome,
    backend::{
        AcquireOutcome, AcquireRequest, ExtendOutcome, LockBackend, LockQuery, LockRef, Mode,
    },
};
use syncguard_sqlite::SqliteBackend;
use syncguard_testkit::mutants::mutants;

use crate::{
    Foreign, Scratch, acquire_and_release, acquire_error, granted, key, lock_of,
    mutants::{LOOSE_TABLES, VALUES},
    queueing::{is_pending, settle},
    release, request, ttl,
};

/// The head of each key that is shared: key, fence, owner and time left beyond that of the longest
/// holder, in one text.
const HEADS: &str = "SELECT key || ' ' || fence || ' ' || quote(owner) || ' ' || (expires_at_ms
        - (SELECT max(expires_at_ms) FROM syncguard_holders WHERE head = locks.lock_id))
    FROM syncguard_locks AS locks
    WHERE lock_id IN (SELECT head FROM syncguard_holders) ORDER BY key";

const HOLDERS: &str = "SELECT count(*) FROM syncguard_holders";
const ANNOUNCEMENTS: &str = "SELECT count(*) FROM syncguard_announcements";
const NOW_MS: &str = "SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER)";

fn reader(text: &str) -> AcquireRequest {
    request(text).with_mode(Mode::SHARED)
}

fn permit(text: &str, permits: u32) -> AcquireRequest {
    request(text).with_mode(Mode::Shared { permits: NonZeroU32::new(permits) })
}

fn writer(text: &str) -> AcquireRequest {
    request(text).with_announcement(Some(Duration::from_secs(60)))
}

async fn contended(backend: &SqliteBackend, request: &AcquireRequest) {
    let outcome = backend.acquire(request).await.unwrap();
    assert!(matches!(outcome, AcquireOutcome::Contended { .. }), "{outcome:?}");
}

async fn is_extended(backend: &SqliteBackend, request: &AcquireRequest) -> bool {
    let outcome = backend.extend(&lock_of(request), ttl(60_000)).await.unwrap();
    matches!(outcome, ExtendOutcome::Extended { .. })
}

/// Acquires exclusively with the statement of clients that know only revision 2. Returns whether
/// the key was granted.
async fn acquire_as_earlier_client(foreign: &mut Foreign, key: &str, counted: i64) -> bool {
    let id = LockId::mint().unwrap();
    let query = sqlx::query(include_str!("../../src/sql/acquire.sql"))
        .bind(key.to_owned())
        .bind(id.as_str().to_owned())
        .bind(None::<String>)
        .bind(60_000)
        .bind(1_000)
        .bind(counted)
        .bind(0);
    !query.fetch_all(&mut foreign.0).await.unwrap().is_empty()
}

#[tokio::test]
async fn an_earlier_client_finds_a_key_held_until_its_last_holder_has_left() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let mut earlier = scratch.foreign().await;
    let mut readers = [reader("key"), reader("key"), reader("key")];
    readers[0].ttl = ttl(3_600_000);
    for (number, request) in (1..).zip(&readers) {
        granted(&backend, request).await;
        assert_eq!(earlier.texts(HEADS).await, [format!("key {number} NULL 0")]);
    }
    assert!(is_extended(&backend, &readers[1]).await);
    for request in &readers {
        assert_eq!(earlier.texts(HEADS).await, ["key 3 NULL 0"]);
        assert!(!acquire_as_earlier_client(&mut earlier, "key", 3).await);
        release(&backend, request).await;
    }
    let record = earlier.record("key").await;
    assert_eq!(record, ["3", "NULL", "NULL", "NULL", "NULL"]);
    assert!(acquire_as_earlier_client(&mut earlier, "key", 3).await);
    contended(&backend, &reader("key")).await;
}

#[tokio::test]
async fn what_an_earlier_client_does_to_a_head_ends_its_holders_permanently() {
    // A forced release; and the pruning or the next grant after all have expired.
    const CLEAR: &str = "UPDATE syncguard_locks SET lock_id = NULL, owner = NULL,
        acquired_at_ms = NULL, expires_at_ms = NULL WHERE key = 'key'";
    const EXPIRE: &str = "UPDATE syncguard_locks SET expires_at_ms = 1";
    for end in [CLEAR, EXPIRE] {
        let scratch = Scratch::new();
        let backend = scratch.open().await;
        let mut earlier = scratch.foreign().await;
        let (gone, again) = (reader("key"), reader("key"));
        granted(&backend, &gone).await;
        earlier.run(end).await;
        granted(&backend, &again).await;
        assert!(!is_extended(&backend, &gone).await, "{end}");
        let released = backend.release(&lock_of(&gone)).await.unwrap();
        assert!(matches!(released, ReleaseOutcome::NotHeld(_)), "{end}");
        assert!(backend.lookup(&LockQuery::ById(gone.lock_id)).await.unwrap().is_none());
        let holders = backend.lookup(&LockQuery::ByKey(key("key"))).await.unwrap().unwrap().holders;
        assert_eq!(holders.len(), 1, "{end}");
        // The id can be granted a key anew.
        let grant = granted(&backend, &gone).await;
        assert_eq!(grant.fence.number(), 3, "{end}");
        assert!(is_extended(&backend, &gone).await && is_extended(&backend, &again).await);
    }
}

#[tokio::test]
async fn an_id_whose_shared_grant_ended_can_be_granted_the_key_exclusively() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let shared = reader("key");
    granted(&backend, &shared).await;
    scratch.foreign().await.run("UPDATE syncguard_locks SET expires_at_ms = 1").await;
    granted(&backend, &shared.clone().with_mode(Mode::Exclusive)).await;
    let record = backend.lookup(&LockQuery::ById(shared.lock_id)).await.unwrap().unwrap();
    assert_eq!((record.mode, record.fence.number()), (Mode::Exclusive, 2));
    assert!(is_extended(&backend, &shared).await);
    release(&backend, &shared).await;
}

#[tokio::test]
async fn a_grant_of_an_earlier_client_ends_the_announcement() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let mut earlier = scratch.foreign().await;
    let held = reader("key");
    granted(&backend, &held).await;
    contended(&backend, &writer("key")).await;
    release(&backend, &held).await;
    contended(&backend, &reader("key")).await;
    assert!(acquire_as_earlier_client(&mut earlier, "key", 1).await);
    earlier.run("UPDATE syncguard_locks SET expires_at_ms = 1").await;
    assert_eq!(earlier.number(ANNOUNCEMENTS).await, 1, "nothing removed it");
    granted(&backend, &reader("key")).await;
}

#[tokio::test]
async fn a_refused_request_in_shared_mode_needs_no_write_lock_and_writes_nothing() {
    let scratch = Scratch::new();
    let backend = scratch.open_with_short_timeout().await;
    let held = permit("semaphore", 1);
    let grant = granted(&backend, &held).await;
    let shared = reader("announced");
    granted(&backend, &shared).await;
    contended(&backend, &writer("announced")).await;
    let mut foreign = scratch.foreign().await;
    let version = foreign.number("PRAGMA data_version").await;
    foreign.block_writers().await;
    contended(&backend, &permit("semaphore", 1)).await;
    contended(&backend, &reader("announced")).await;
    contended(&backend, &request("announced")).await;
    assert_eq!(granted(&backend, &held).await, grant, "the same id finds its grant");
    let error = acquire_error(&backend, &permit("semaphore", 2)).await;
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert!(!error.may_have_applied());
    foreign.unblock_writers().await;
    assert_eq!(foreign.number("PRAGMA data_version").await, version);
}

/// Runs an acquire that has read the key before `meanwhile` changes it, and writes after that.
async fn overtaken(
    scratch: &Scratch,
    backend: &SqliteBackend,
    late: &AcquireRequest,
    meanwhile: &str,
) -> Result<AcquireOutcome, Error> {
    let mut foreign = scratch.foreign().await;
    foreign.block_writers().await;
    let mut acquiring = pin!(backend.acquire(late));
    assert!(is_pending(&mut acquiring).await, "the write was not held up");
    settle(backend).await;
    let query = sqlx::query(sqlx::AssertSqlSafe(meanwhile.to_owned()));
    query.execute(&mut foreign.0).await.unwrap();
    foreign.unblock_writers().await;
    acquiring.await
}

#[tokio::test]
async fn a_shared_acquire_and_an_announcement_that_are_overtaken_by_their_abandon_store_nothing() {
    for late in [reader("key"), writer("key")] {
        let scratch = Scratch::new();
        let backend = scratch.open().await;
        granted(&backend, &reader("key")).await;
        let tombstone = late.lock_id;
        let tombstone = tombstone.as_str();
        let abandon = format!("INSERT INTO syncguard_abandoned VALUES ('{tombstone}', 1 << 60)");
        let error = overtaken(&scratch, &backend, &late, &abandon).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Aborted, "{error}");
        assert!(!error.may_have_applied());
        let mut foreign = scratch.foreign().await;
        assert_eq!((foreign.number(HOLDERS).await, foreign.number(ANNOUNCEMENTS).await), (1, 0));
        assert_eq!(granted(&backend, &reader("key")).await.fence.number(), 2);
    }
}

#[tokio::test]
async fn a_shared_acquire_that_is_overtaken_by_a_writer_is_refused() {
    const WRITER: &str = "UPDATE syncguard_locks SET fence = 2, lock_id = 'AAAAAAAAAAAAAAAAAAAAAA',
        acquired_at_ms = 1, expires_at_ms = 4102444800000";
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    acquire_and_release(&backend, "key").await;
    let outcome = overtaken(&scratch, &backend, &reader("key"), WRITER).await.unwrap();
    let AcquireOutcome::Contended { holder: Some(holder) } = outcome else {
        panic!("beside a writer: {outcome:?}");
    };
    assert_eq!((holder.mode, holder.fence), (Mode::Exclusive, Some(Fence::new(2).unwrap())));
    assert_eq!(scratch.foreign().await.number(HOLDERS).await, 0);
}

#[tokio::test]
async fn a_writer_is_granted_if_the_holders_leave_before_it_can_announce_itself() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    granted(&backend, &reader("key")).await;
    let expire = "UPDATE syncguard_locks SET expires_at_ms = 1";
    let outcome = overtaken(&scratch, &backend, &writer("key"), expire).await.unwrap();
    assert!(matches!(outcome, AcquireOutcome::Granted(_)), "{outcome:?}");
    assert_eq!(scratch.foreign().await.number(ANNOUNCEMENTS).await, 0);
}

#[tokio::test]
async fn an_id_that_shares_a_key_is_granted_no_other_key_in_shared_mode() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let held = reader("patient:jane-doe");
    granted(&backend, &held).await;
    let again = AcquireRequest::new(key("patient:john-doe"), held.lock_id, held.ttl);
    let again = again.with_mode(Mode::SHARED);
    let error = acquire_error(&backend, &again).await;
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert!(!error.may_have_applied());
    assert!(!format!("{error} {error:?}").contains("-doe"), "{error:?}");
    assert_eq!(acquire_and_release(&backend, "patient:john-doe").await, 1, "nothing was stored");
    assert!(is_extended(&backend, &held).await);
}

#[tokio::test]
async fn what_ended_is_pruned_and_what_is_live_or_stands_stays() {
    const EXPIRE: &str = "UPDATE syncguard_locks SET expires_at_ms = 1 WHERE key = 'expired';
        UPDATE syncguard_holders SET expires_at_ms = 1
        WHERE head IN (SELECT lock_id FROM syncguard_locks WHERE key = 'expired');
        UPDATE syncguard_announcements SET until_ms = 1 WHERE key = 'expired'";
    let scratch = Scratch::in_memory();
    let backend = scratch.open().await;
    let mut foreign = scratch.foreign().await;
    let stays = [reader("held"), reader("held")];
    for request in stays.iter().chain(&[reader("expired"), reader("expired")]) {
        granted(&backend, request).await;
    }
    contended(&backend, &writer("held")).await;
    contended(&backend, &writer("expired")).await;
    foreign.run(EXPIRE).await;
    assert_eq!((foreign.number(HOLDERS).await, foreign.number(ANNOUNCEMENTS).await), (4, 2));
    // The head is cleared by the first pruning from the lowest id, its holders are removed by it.
    for _ in 0..2 * 64 {
        acquire_and_release(&backend, "key").await;
    }
    assert_eq!((foreign.number(HOLDERS).await, foreign.number(ANNOUNCEMENTS).await), (2, 1));
    for request in &stays {
        assert!(is_extended(&backend, request).await);
    }
    contended(&backend, &reader("held")).await;
    assert_eq!(foreign.texts(HEADS).await, ["held 2 NULL 0"]);
}

#[tokio::test]
async fn holders_that_expired_are_removed_by_the_next_grant_or_release_of_the_key() {
    const EXPIRE: &str = "UPDATE syncguard_holders SET expires_at_ms = 1 WHERE fence = 1";
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let mut foreign = scratch.foreign().await;
    for text in ["granted", "released"] {
        granted(&backend, &reader(text)).await;
    }
    let stays = reader("released");
    for request in [&reader("granted"), &stays, &reader("released")] {
        granted(&backend, request).await;
    }
    foreign.run(EXPIRE).await;
    granted(&backend, &reader("granted")).await;
    release(&backend, &stays).await;
    let left = "SELECT count(*) FROM syncguard_holders WHERE fence = 1";
    assert_eq!(foreign.number(left).await, 0);
    assert_eq!(foreign.texts(HEADS).await, ["granted 3 NULL 0", "released 3 NULL 0"]);
}

/// The tables of shared mode without types and constraints.
const LOOSE_SHARED_TABLES: &str = "
    UPDATE syncguard_schema SET revision = 3;
    CREATE TABLE syncguard_holders (
        lock_id PRIMARY KEY NOT NULL, head, permits, fence, owner, acquired_at_ms, expires_at_ms
    ) WITHOUT ROWID;
    CREATE INDEX syncguard_holders_by_head ON syncguard_holders (head);
    CREATE TABLE syncguard_announcements (
        key PRIMARY KEY NOT NULL, lock_id, until_ms, fence
    ) WITHOUT ROWID;
    CREATE INDEX syncguard_announcements_by_until ON syncguard_announcements (until_ms)";

/// The columns of a holder and of an announcement before they are mutated: the permits, the fence,
/// the owner, the times of the holder, and the lock id and the end of the announcement.
const SHAPES: [[&str; 7]; 2] = [
    ["NULL", "7", "'web-3'", "1", "4102444800000", "WRITER", "4102444800000"],
    ["3", "7", "NULL", "1", "4102444800000", "NULL", "NULL"],
];

fn is_readable([permits, fence, _, acquired, expires, writer, until]: [&str; 7]) -> bool {
    let integer = |literal: &str| literal.parse::<i64>().ok();
    let permits = permits == "NULL" || integer(permits).is_some_and(|n| (1..=7).contains(&n));
    let fence = integer(fence).is_some_and(|n| (0..1_000_000_000_000_000).contains(&n));
    let announced = writer == "NULL" || (writer == "WRITER" && integer(until).is_some());
    permits && fence && integer(acquired).is_some() && integer(expires).is_some() && announced
}

/// Stores a key that is held by a sound holder and a damaged one.
async fn plant(foreign: &mut Foreign, ids: &[LockId; 4], columns: [&str; 7]) {
    let [head, sound, id, writer] = ids.each_ref().map(LockId::as_str);
    let [permits, fence, owner, acquired, expires, announced, until] =
        columns.map(|column| column.replace("WRITER", &format!("'{writer}'")));
    let sound_permits = if columns[0] == "NULL" { "NULL" } else { permits.as_str() };
    let sql = format!(
        "DELETE FROM syncguard_locks; DELETE FROM syncguard_holders;
        DELETE FROM syncguard_announcements;
        INSERT INTO syncguard_locks VALUES ('key', 8, '{head}', NULL, 1, 4102444800000);
        INSERT INTO syncguard_holders
            VALUES ('{sound}', '{head}', {sound_permits}, 8, NULL, 1, 4102444800000);
        INSERT INTO syncguard_holders
            VALUES ('{id}', '{head}', {permits}, {fence}, {owner}, {acquired}, {expires});
        INSERT INTO syncguard_announcements VALUES ('key', {announced}, {until}, 8)"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut foreign.0).await.unwrap();
}

fn is_unreadable<T>(outcome: &Result<T, Error>) -> bool {
    outcome.as_ref().is_err_and(|error| {
        error.kind() == ErrorKind::Internal && error.to_string().contains("cannot be read")
    })
}

#[tokio::test]
async fn shared_data_that_cannot_be_read_is_an_error_and_is_cleared_only_by_force() {
    const ALL: &str = "SELECT (SELECT group_concat(quote(fence) || quote(lock_id), ';')
            FROM syncguard_locks) || (SELECT group_concat(quote(lock_id) || quote(permits)
            || quote(fence) || quote(acquired_at_ms) || quote(expires_at_ms), ';')
            FROM syncguard_holders) || (SELECT group_concat(quote(lock_id) || quote(until_ms), ';')
            FROM syncguard_announcements)";
    let scratch = Scratch::in_memory();
    let mut foreign = scratch.foreign().await;
    foreign.run(LOOSE_TABLES).await;
    foreign.run("ALTER TABLE syncguard_schema ADD COLUMN revision").await;
    foreign.run(LOOSE_SHARED_TABLES).await;
    let backend = scratch.open().await;
    let (mut readable, mut unreadable) = (0, 0);
    for columns in mutants(&SHAPES, [&VALUES; 7], 1) {
        let ids = [(); 4].map(|()| LockId::mint().unwrap());
        plant(&mut foreign, &ids, columns).await;
        let before = foreign.texts(ALL).await;
        let shared = reader("key").with_mode(Mode::Shared { permits: NonZeroU32::new(3) });
        let by_key = backend.lookup(&LockQuery::ByKey(key("key"))).await;
        if is_readable(columns) {
            assert!(by_key.is_ok(), "{columns:?}: {by_key:?}");
            assert!(backend.acquire(&request("key")).await.is_ok(), "{columns:?}");
            readable += 1;
            continue;
        }
        assert!(is_unreadable(&by_key), "{columns:?}: {by_key:?}");
        for wanted in [&request("key"), &writer("key"), &shared] {
            let outcome = backend.acquire(wanted).await;
            assert!(is_unreadable(&outcome), "{columns:?}: {outcome:?}");
            assert!(outcome.is_err_and(|error| !error.may_have_applied()));
        }
        // They do not read the announcement.
        if !is_readable([columns[0], columns[1], "", columns[3], columns[4], "NULL", ""]) {
            let lock = LockRef::new(ids[1], key("key"));
            assert!(is_unreadable(&backend.extend(&lock, ttl(60_000)).await), "{columns:?}");
            assert!(is_unreadable(&backend.release(&lock).await), "{columns:?}");
            assert!(is_unreadable(&backend.abandon(ids[1], &key("key")).await), "{columns:?}");
        }
        assert_eq!(foreign.texts(ALL).await, before, "{columns:?}");
        let error = backend.force_release(&key("key")).await.unwrap_err();
        assert!(error.has_applied() && error.to_string().contains("it was cleared"), "{error}");
        assert_eq!(foreign.record("key").await, ["8", "NULL", "NULL", "NULL", "NULL"]);
        let left = (foreign.number(HOLDERS).await, foreign.number(ANNOUNCEMENTS).await);
        assert_eq!(left, (0, 0), "{columns:?}");
        assert!(backend.force_release(&key("key")).await.unwrap().is_none());
        unreadable += 1;
    }
    assert!(readable >= 40 && unreadable >= 200, "{readable} and {unreadable}");
}

#[tokio::test]
async fn holders_with_different_numbers_of_permits_cannot_be_read() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    for request in [permit("key", 3), permit("key", 3)] {
        granted(&backend, &request).await;
    }
    scratch.foreign().await.run("UPDATE syncguard_holders SET permits = 4 WHERE fence = 2").await;
    assert!(is_unreadable(&backend.acquire(&permit("key", 3)).await));
    assert!(is_unreadable(&backend.is_locked(&key("key")).await));
}

#[tokio::test]
async fn a_head_whose_holders_were_deleted_keeps_its_key_until_it_expires() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let held = reader("key");
    granted(&backend, &held).await;
    let mut foreign = scratch.foreign().await;
    foreign.run("DELETE FROM syncguard_holders").await;
    for wanted in [reader("key"), request("key"), held.clone()] {
        contended(&backend, &wanted).await;
    }
    assert!(!is_extended(&backend, &held).await);
    foreign.run("UPDATE syncguard_locks SET expires_at_ms = 1").await;
    assert_eq!(granted(&backend, &held).await.fence.number(), 2);
}

/// The ttl counts from the time at which the transaction reads the clock.
#[tokio::test(flavor = "multi_thread")]
async fn a_shared_ttl_counts_from_the_grant_not_from_the_wait_before_it() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let mut foreign = scratch.foreign().await;
    foreign.block_writers().await;
    let asked = foreign.number(NOW_MS).await;
    let wanted = reader("key");
    let waiting = tokio::spawn({
        let (backend, wanted) = (backend.clone(), wanted.clone());
        async move { granted(&backend, &wanted).await }
    });
    while foreign.number(NOW_MS).await < asked + 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let freed = foreign.number(NOW_MS).await;
    foreign.unblock_writers().await;
    let expires = waiting.await.unwrap().expires_at.unix_millis();
    assert!(expires - wanted.ttl.as_millis() >= freed, "{expires} - ttl is before {freed}");
}
