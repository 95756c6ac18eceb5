//! Shared mode: how it is stored, TypeScript clients beside it, damaged data, and many clients at
//! once.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use syncguard_core::{
    ErrorKind, LockId, Owner,
    backend::{AcquireOutcome, AcquireRequest, ListRequest, LockBackend, LockRecord, Mode},
};
use syncguard_postgres::{PostgresBackend, PostgresConfig};
use syncguard_testkit::{
    operations::{LONG, ask, error_of, extended, granted, is_contended, is_locked, key, released},
    server::PostgresServer,
    sql::schema::recorded,
};
use tokio::task::JoinSet;

use crate::{
    Foreign, Names,
    peer::{typescript_acquire, typescript_release},
    shared,
    typescript::{TABLES, with_names},
};

struct Scene {
    server: Arc<PostgresServer>,
    names: Names,
    backend: PostgresBackend,
    foreign: Foreign,
}

impl Scene {
    async fn set() -> Self {
        let (server, names) = (shared().await, Names::fresh());
        let backend = names.connect(&server.url()).await;
        let foreign = Foreign::open(&server.url()).await;
        Self { server, names, backend, foreign }
    }

    async fn run(&mut self, sql: &str) {
        self.foreign.run(&with_names(sql, &self.names)).await;
    }

    async fn number(&mut self, sql: &str) -> i64 {
        self.foreign.number(&with_names(sql, &self.names)).await
    }

    async fn text(&mut self, sql: &str) -> String {
        self.foreign.text(&with_names(sql, &self.names)).await
    }

    async fn typescript(&mut self, text: &str, id: LockId) -> bool {
        typescript_acquire(&mut self.foreign, &self.names, text, id.as_str()).await.is_some()
    }

    async fn found(&self, text: &str) -> LockRecord {
        self.backend.lookup(&key(text).into()).await.unwrap().unwrap()
    }
}

fn reader(text: &str) -> AcquireRequest {
    ask(text, LONG).with_mode(Mode::SHARED)
}

async fn is_closed_to_readers(backend: &PostgresBackend, text: &str) -> bool {
    let outcome = backend.acquire(&reader(text)).await.unwrap();
    matches!(outcome, AcquireOutcome::Contended { .. })
}

#[tokio::test]
async fn holders_are_stored_in_the_row_of_the_key_and_in_rows_of_their_own() {
    let mut scene = Scene::set().await;
    let permits = NonZeroU32::new(4);
    let first =
        reader("job").with_mode(Mode::Shared { permits }).with_owner(Owner::new("ci-7").ok());
    let second = reader("job").with_mode(Mode::Shared { permits });
    let grants = [granted(&scene.backend, &first).await, granted(&scene.backend, &second).await];
    let head =
        "SELECT jsonb_build_object('is_head', shared_id = lock_id AND owner_lock_id = lock_id,
            'fence', fence, 'permits', permits, 'expires_at_ms', expires_at_ms,
            'user_key', user_key, 'holders', holders - ARRAY[]::text[],
            'rest', ARRAY[owner, announced_by, announced_until_ms::text, head_key])::text
        FROM {locks} WHERE key = 'job'";
    let head: serde_json::Value = serde_json::from_str(&scene.text(head).await).unwrap();
    let holder = |grant: usize, owner: Option<&str>| {
        let grant = grants[grant];
        let mut holder = serde_json::json!({
            "fence": grant.fence.to_string(),
            "acquired_at_ms": grant.expires_at.unix_millis() - 60_000,
            "expires_at_ms": grant.expires_at.unix_millis(),
        });
        if let Some(owner) = owner {
            holder["owner"] = owner.into();
        }
        holder
    };
    let expected = serde_json::json!({
        "is_head": true, "fence": "000000000000002", "permits": 4, "user_key": "job",
        "expires_at_ms": grants[0].expires_at.max(grants[1].expires_at).unix_millis(),
        "holders": {
            first.lock_id.as_str(): holder(0, Some("ci-7")),
            second.lock_id.as_str(): holder(1, None),
        },
        "rest": [null, null, null, null],
    });
    assert_eq!(head, expected);
    let members = "SELECT count(*) FROM {locks} WHERE octet_length(key) > 512
        AND head_key = 'job' AND user_key = 'job' AND expires_at_ms = 0 AND shared_id IS NULL";
    assert_eq!(scene.number(members).await, 2);
    for request in [&first, &second] {
        assert!(released(&scene.backend, request).await);
    }
    assert_eq!(scene.number(members).await, 0);
    assert_eq!(granted(&scene.backend, &ask("job", LONG)).await.fence.number(), 3);
    let cleared = "SELECT count(*) FROM {locks}
        WHERE num_nulls(shared_id, permits, holders, announced_by, announced_until_ms) = 5";
    assert_eq!(scene.number(cleared).await, 1, "the ids of former holders are not kept");
}

#[tokio::test]
async fn a_typescript_client_waits_for_the_last_reader_and_keeps_readers_out() {
    let mut scene = Scene::set().await;
    let (first, second) = (reader("job"), reader("job"));
    granted(&scene.backend, &first).await;
    granted(&scene.backend, &second).await;
    let theirs = LockId::mint().unwrap();
    assert!(!scene.typescript("job", theirs).await);
    assert!(released(&scene.backend, &first).await);
    assert!(!scene.typescript("job", theirs).await);
    assert!(released(&scene.backend, &second).await);
    assert!(scene.typescript("job", theirs).await);
    scene.run("UPDATE {locks} SET expires_at_ms = 9e15 WHERE key = 'job'").await;
    let AcquireOutcome::Contended { holder: Some(holder) } =
        scene.backend.acquire(&reader("job")).await.unwrap()
    else {
        panic!("a reader was granted a key that a TypeScript client holds");
    };
    assert_eq!((holder.mode, holder.silent), (Mode::Exclusive, true));
    typescript_release(&mut scene.foreign, &scene.names, theirs.as_str()).await;
    assert_eq!(granted(&scene.backend, &reader("job")).await.fence.number(), 4);
}

/// The expiry of the head has passed, so that a peer takes the key over. The columns that it does
/// not know still contain a holder that is not over.
#[tokio::test]
async fn the_upsert_of_a_peer_ends_all_shared_grants_of_the_key() {
    let mut scene = Scene::set().await;
    let (held, theirs) = (reader("job"), LockId::mint().unwrap());
    granted(&scene.backend, &held).await;
    scene.run("UPDATE {locks} SET expires_at_ms = 1 WHERE key = 'job'").await;
    assert!(scene.typescript("job", theirs).await);
    scene.run("UPDATE {locks} SET expires_at_ms = 9e15 WHERE key = 'job'").await;
    let stale = "SELECT count(*) FROM {locks} WHERE key = 'job' AND holders IS NOT NULL";
    assert_eq!(scene.number(stale).await, 1);
    assert!(is_closed_to_readers(&scene.backend, "job").await);
    assert!(!extended(&scene.backend, &held).await);
    assert!(scene.backend.lookup(&held.lock_id.into()).await.unwrap().is_none());
    let record = scene.found("job").await;
    assert_eq!((record.mode, record.lock_id), (Mode::Exclusive, theirs));
    assert!(!released(&scene.backend, &held).await);
    assert!(is_contended(&scene.backend, "job").await, "the peer's lock was left alone");
}

#[tokio::test]
async fn shared_mode_is_unsupported_until_the_schema_step_has_added_its_columns() {
    let old = format!(
        "{TABLES}; ALTER TABLE {{locks}} ADD COLUMN owner text, ADD COLUMN owner_lock_id text;
        CREATE TABLE {{locks}}_schema (id bigint PRIMARY KEY, version bigint, revision bigint);
        INSERT INTO {{locks}}_schema VALUES (1, 1, 2)"
    );
    let server = shared().await;
    let mut foreign = Foreign::open(&server.url()).await;
    for tables in [TABLES, old.as_str()] {
        let names = Names::fresh();
        foreign.run(&with_names(tables, &names)).await;
        let columns = with_names(
            "SELECT count(*) FROM pg_attribute
            WHERE attrelid = '{locks}'::regclass AND attnum > 0",
            &names,
        );
        let before = foreign.number(&columns).await;
        let backend = names.connect(&server.url()).await;
        assert!(!backend.capabilities().shared);
        let error = error_of(backend.acquire(&reader("job")).await, ErrorKind::Unsupported);
        let text = error.to_string();
        assert!(text.contains("syncguard schema --apply") && !error.may_have_applied(), "{text}");
        let exclusive = ask("job", LONG).with_announcement(Some(LONG));
        granted(&backend, &exclusive).await;
        assert!(extended(&backend, &exclusive).await && is_contended(&backend, "job").await);
        assert!(released(&backend, &exclusive).await);
        backend.abandon(exclusive.lock_id, &exclusive.key).await.unwrap();
        assert_eq!(foreign.number(&columns).await, before, "connecting changes nothing");

        PostgresBackend::setup_schema(&names.config(&server.url())).await.unwrap();
        assert_eq!(recorded(&mut foreign, &names).await, (1, 3));
        granted(&backend, &ask("as before", LONG)).await;
        let backend = names.connect(&server.url()).await;
        assert!(backend.capabilities().shared);
        assert_eq!(granted(&backend, &reader("job")).await.fence.number(), 2);
        assert!(is_locked(&backend, "theirs").await, "rows are kept");
    }
}

#[tokio::test]
async fn holders_that_cannot_be_read_are_an_error_until_they_are_released_by_force() {
    let mut scene = Scene::set().await;
    for (turn, damage) in [
        "NULL",
        "'7'",
        "'[]'",
        r#"jsonb_build_object('abcdefghijklmnopqrstuv', 7)"#,
        r#"holders || jsonb_build_object('abcdefghijklmnopqrstuv', jsonb_build_object('fence', '7'))"#,
        r#"jsonb_build_object('abcdefghijklmnopqrstuv', jsonb_build_object('expires_at_ms', 'soon'))"#,
    ]
    .into_iter()
    .enumerate()
    {
        let held = reader("job");
        let fence = granted(&scene.backend, &held).await.fence.number();
        assert_eq!(fence, u64::try_from(turn).unwrap() + 1);
        scene.run(&format!("UPDATE {{locks}} SET holders = {damage} WHERE key = 'job'")).await;
        let backend = &scene.backend;
        let announced = ask("job", LONG).with_announcement(Some(LONG));
        for refused in [
            backend.acquire(&reader("job")).await.map(drop),
            backend.acquire(&announced).await.map(drop),
            backend.extend(&held.lock_id.into(), held.ttl).await.map(drop),
            backend.release(&held.lock_id.into()).await.map(drop),
            backend.lookup(&held.key.clone().into()).await.map(drop),
            backend.lookup(&held.lock_id.into()).await.map(drop),
        ] {
            let error = error_of(refused, ErrorKind::Internal);
            let text = error.to_string();
            assert!(text.contains("the stored holders cannot be read"), "{damage}: {text}");
            assert!(!error.may_have_applied());
        }
        assert!(backend.list(&ListRequest::new("")).await.unwrap().locks.is_empty());
        assert_eq!(backend.prune(Duration::ZERO).await.unwrap(), 0);
        let error = error_of(backend.force_release(&held.key).await, ErrorKind::Internal);
        assert!(error.has_applied(), "{error}");
        assert!(!extended(backend, &held).await);
    }
}

#[tokio::test]
async fn pruning_keeps_live_holders_and_announcements_and_removes_what_crashed_holders_left() {
    const AGE: &str = "UPDATE {locks} SET acquired_at_ms = 1";
    let mut scene = Scene::set().await;
    let held = reader("held");
    granted(&scene.backend, &held).await;
    let (kept, writer) = (reader("kept"), ask("kept", LONG).with_announcement(Some(LONG)));
    granted(&scene.backend, &kept).await;
    assert!(matches!(
        scene.backend.acquire(&writer).await.unwrap(),
        AcquireOutcome::Contended { .. }
    ));
    assert!(released(&scene.backend, &kept).await);
    scene.run(AGE).await;
    assert_eq!(scene.backend.prune(Duration::ZERO).await.unwrap(), 0);
    assert!(extended(&scene.backend, &held).await);
    assert!(is_closed_to_readers(&scene.backend, "kept").await);

    scene.run("UPDATE {locks} SET expires_at_ms = 1, holders = holders - ARRAY[]::text[]").await;
    scene.run("DELETE FROM {locks} WHERE key = 'held'").await;
    scene.backend.abandon(writer.lock_id, &writer.key).await.unwrap();
    assert_eq!(scene.backend.prune(Duration::ZERO).await.unwrap(), 2, "a holder and a head");
    granted(&scene.backend, &reader("kept")).await;
}

/// The `prune` of an earlier version takes the row of a member for that of an old tombstone.
#[tokio::test]
async fn an_abandon_ends_a_grant_whose_row_of_a_member_is_missing() {
    let mut scene = Scene::set().await;
    let lost = reader("job");
    granted(&scene.backend, &lost).await;
    let id = lost.lock_id.as_str();
    scene.run(&format!("DELETE FROM {{locks}} WHERE lock_id = '{id}' AND head_key = 'job'")).await;
    scene.backend.abandon(lost.lock_id, &lost.key).await.unwrap();
    granted(&scene.backend, &ask("job", LONG)).await;
}

/// An administrator may have revoked the default. Exclusive locks would then be granted, but neither
/// extended nor released, because their statements contain calls of the functions.
#[tokio::test]
async fn every_role_may_call_the_functions_whatever_the_default_is() {
    let mut scene = Scene::set().await;
    let granted = "SELECT count(*) FROM pg_proc
        WHERE starts_with(proname, '{locks}') AND proacl::text LIKE '%{=X/%'";
    let granted = with_names(granted, &scene.names);
    assert_eq!(scene.foreign.number(&granted).await, 6);
}

#[tokio::test]
async fn extends_of_readers_and_writers_that_are_sent_together_are_all_applied() {
    let (server, names) = (shared().await, Names::fresh());
    let config = names.config(&server.url()).max_connections(2);
    let backend = PostgresBackend::connect(config).await.unwrap();
    let readers = (0..40).map(|number| reader(["a", "b"][number % 2]));
    let writers = (0..10).map(|number| ask(&format!("w{number}"), LONG));
    let requests: Vec<_> = readers.chain(writers).collect();
    for request in &requests {
        granted(&backend, request).await;
    }
    let gone = &requests[7];
    assert!(released(&backend, gone).await);
    let mut extends = JoinSet::new();
    for request in requests.clone() {
        let (backend, is_gone) = (backend.clone(), request.lock_id == gone.lock_id);
        extends.spawn(async move { extended(&backend, &request).await != is_gone });
    }
    assert!(extends.join_all().await.into_iter().all(|as_expected| as_expected));
    for text in ["a", "b"] {
        let record = backend.lookup(&key(text).into()).await.unwrap().unwrap();
        let ends = record.holders.iter().map(|holder| holder.expires_at);
        assert_eq!(record.expires_at, ends.max().unwrap());
        assert!(
            record
                .holders
                .iter()
                .all(|holder| { holder.expires_at.since(holder.acquired_at) > LONG }),
            "{record:?}"
        );
    }
}

/// The statements are sent unprepared, after a preamble, as a transaction pooler needs it; and they
/// check their transaction, as a caller's pool needs it.
#[tokio::test]
async fn each_operation_works_through_a_pooler_and_on_the_pool_of_a_caller() {
    let scene = Scene::set().await;
    let url = scene.server.url();
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    let caller = PostgresConfig::from_pool(pool).tables(&scene.names.locks, &scene.names.counters);
    for (config, text) in [(scene.names.config(&url).pgbouncer(), "a"), (caller, "b")] {
        let backend = PostgresBackend::connect(config).await.unwrap();
        let permits = Mode::Shared { permits: NonZeroU32::new(2) };
        let owner = Owner::new("ci-7").ok();
        let [first, second, third] =
            [0; 3].map(|_| reader(text).with_mode(permits).with_owner(owner.clone()));
        granted(&backend, &first).await;
        granted(&backend, &second).await;
        let refused = backend.acquire(&third).await.unwrap();
        assert!(matches!(refused, AcquireOutcome::Contended { holder: Some(_) }));
        assert!(extended(&backend, &first).await && released(&backend, &first).await);
        let writer = ask(text, LONG).with_announcement(Some(LONG));
        let refused = backend.acquire(&writer).await.unwrap();
        assert!(matches!(refused, AcquireOutcome::Contended { holder: Some(_) }));
        let refused = backend.acquire(&third).await.unwrap();
        assert!(matches!(refused, AcquireOutcome::Contended { holder: Some(_) }), "announced");
        backend.abandon(writer.lock_id, &writer.key).await.unwrap();
        granted(&backend, &third).await;
        assert_eq!(scene.found(text).await.holders.len(), 2);
        backend.abandon(third.lock_id, &third.key).await.unwrap();
        let ended = backend.force_release(&third.key).await.unwrap().unwrap();
        assert_eq!(ended.holders.len(), 1);
        assert!(!is_locked(&backend, text).await);
    }
}

const WRITERS: usize = 3;
const READERS: usize = 12;
/// The number of exclusive grants at which the storm ends.
const WRITES: usize = 150;
/// The number of exclusive grants that even a busy machine must reach in this time.
const MIN_WRITES: usize = 10;
const MAX_DURATION: Duration = Duration::from_secs(60);
/// What a writer adds to the number of those who are inside.
const WRITER: i64 = 1_000_000;

/// What the tasks of a storm share.
#[derive(Default)]
struct Storm {
    /// How many hold the key. A task counts from its grant until it sends its release.
    inside: AtomicI64,
    writes: AtomicUsize,
    reads: AtomicUsize,
    is_over: AtomicBool,
}

impl Storm {
    fn continues(&self) -> bool {
        !self.is_over.load(Ordering::SeqCst)
    }

    async fn read(self: Arc<Self>, backend: PostgresBackend, number: usize) {
        let mut turn = number;
        while self.continues() {
            turn += 1;
            let request = reader("job");
            if turn.is_multiple_of(5) {
                // The outcomes of the acquires do not matter: the id holds nothing afterwards.
                let (first, second, abandoned) = tokio::join!(
                    backend.acquire(&request),
                    backend.acquire(&request),
                    backend.abandon(request.lock_id, &request.key)
                );
                abandoned.unwrap();
                for error in [first, second].into_iter().filter_map(Result::err) {
                    assert_eq!(error.kind(), ErrorKind::Aborted, "{error}");
                }
                assert!(!extended(&backend, &request).await);
                continue;
            }
            let AcquireOutcome::Granted(_) = backend.acquire(&request).await.unwrap() else {
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            };
            let before = self.inside.fetch_add(1, Ordering::SeqCst);
            assert!(before < WRITER, "a reader beside a writer");
            self.reads.fetch_add(1, Ordering::SeqCst);
            assert!(extended(&backend, &request).await);
            self.inside.fetch_sub(1, Ordering::SeqCst);
            if turn.is_multiple_of(3) {
                backend.abandon(request.lock_id, &request.key).await.unwrap();
            } else {
                assert!(released(&backend, &request).await);
            }
        }
    }

    async fn write(self: Arc<Self>, backend: PostgresBackend) {
        let announce = Some(Duration::from_secs(2));
        while self.continues() {
            let request = ask("job", LONG).with_announcement(announce);
            while let AcquireOutcome::Contended { .. } = backend.acquire(&request).await.unwrap() {
                if !self.continues() {
                    return backend.abandon(request.lock_id, &request.key).await.unwrap();
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let before = self.inside.fetch_add(WRITER, Ordering::SeqCst);
            assert_eq!(before, 0, "a writer beside others");
            self.writes.fetch_add(1, Ordering::SeqCst);
            assert!(extended(&backend, &request).await);
            self.inside.fetch_sub(WRITER, Ordering::SeqCst);
            assert!(released(&backend, &request).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_writer_is_beside_others_and_none_of_them_deadlock_or_starve() {
    let mut scene = Scene::set().await;
    let storm = Arc::new(Storm::default());
    let connect = async || {
        let config = scene.names.config(&scene.server.url()).max_connections(8);
        PostgresBackend::connect(config).await.unwrap()
    };
    let clients = [connect().await, connect().await];
    let mut tasks = JoinSet::new();
    for number in 0..READERS {
        tasks.spawn(storm.clone().read(clients[number % 2].clone(), number));
    }
    for number in 0..WRITERS {
        tasks.spawn(storm.clone().write(clients[number % 2].clone()));
    }
    let begun = Instant::now();
    while storm.writes.load(Ordering::SeqCst) < WRITES && begun.elapsed() < MAX_DURATION {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    storm.is_over.store(true, Ordering::SeqCst);
    tasks.join_all().await;
    let (writes, reads) = (storm.writes.load(Ordering::SeqCst), storm.reads.load(Ordering::SeqCst));
    assert!(writes >= MIN_WRITES && reads >= writes, "{writes} writes, {reads} reads");
    assert!(!is_locked(&scene.backend, "job").await);
    let members = "SELECT count(*) FROM {locks} WHERE head_key IS NOT NULL";
    assert_eq!(scene.number(members).await, 0);
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(scene.number(deadlocks).await, 0);
}
