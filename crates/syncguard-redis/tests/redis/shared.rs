//! Shared mode: what is stored, and the clients that know only exclusive locks.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use syncguard_core::{
    Error, ErrorKind, LockId, Owner, ReleaseOutcome,
    backend::{
        AcquireOutcome, AcquireRequest, ExtendOutcome, ListRequest, LockBackend, LockRef, Mode,
    },
};
use syncguard_redis::RedisBackend;
use syncguard_testkit::{
    operations::{
        LONG, ask, error_of, eventually, extended, granted, is_contended, is_locked, key, lock_of,
        released, ttl,
    },
    proxy::{Flow, Proxy, RespArrays},
    server::{RedisCluster, RedisServer},
    typescript::RedisPeer,
};
use tokio::{sync::RwLock, task::JoinSet};

use crate::{config, connect, safe};

const HEAD: &str = "syncguard:job";
const HOLDERS: &str = "syncguard:job\u{37e}shared";
const SHORT: Duration = Duration::from_millis(50);
const PEER: &str = "ABCDEFGHIJKLMNOPQRSTUV";

/// Returns the record of all holders and when it expires, and the fields of the hash and when it
/// expires, in Unix milliseconds.
const READ: &str = "\
    local fields, holders = redis.call('HGETALL', KEYS[2]), {} \
    for i = 1, #fields, 2 do holders[fields[i]] = fields[i + 1] end \
    return cjson.encode({redis.call('GET', KEYS[1]), redis.call('PEXPIRETIME', KEYS[1]), \
      redis.call('PEXPIRETIME', KEYS[2]), next(holders) and holders or nil})";

/// Returns what is stored under the name of the holders, of either type.
const DIGEST: &str = "\
    local value = redis.pcall('HGETALL', KEYS[1]) \
    if value.err then return redis.call('GET', KEYS[1]) end \
    table.sort(value) return table.concat(value, ' ')";

async fn started() -> (RedisServer, RedisBackend, RedisPeer) {
    let server = safe().setting("appendonly", "no").start().await.unwrap();
    let backend = connect(&server.url()).await;
    let peer = RedisPeer::connect(server.address(), "syncguard").await;
    (server, backend, peer)
}

fn reader(duration: Duration) -> AcquireRequest {
    ask("job", duration).with_mode(Mode::SHARED)
}

fn permit(permits: u32) -> AcquireRequest {
    ask("job", LONG).with_mode(Mode::Shared { permits: NonZeroU32::new(permits) })
}

async fn is_refused(backend: &RedisBackend, request: &AcquireRequest) -> bool {
    matches!(backend.acquire(request).await.unwrap(), AcquireOutcome::Contended { .. })
}

/// Announces a writer, which the present holders refuse.
async fn announce(backend: &RedisBackend, duration: Duration) -> AcquireRequest {
    let writer = ask("job", LONG).with_announcement(Some(duration));
    assert!(is_refused(backend, &writer).await);
    writer
}

/// What is stored for the key, except for its counter and the entries of ids.
struct Stored {
    head: Option<HashMap<String, Value>>,
    head_expires: i64,
    expires: i64,
    fields: HashMap<String, String>,
}

impl Stored {
    async fn read(peer: &mut RedisPeer) -> Self {
        let words = ["EVAL", READ, "2", HEAD, HOLDERS];
        let text = peer.call(&words).await.unwrap().unwrap();
        let values: Vec<Value> = serde_json::from_str(&text).unwrap();
        let fields = values.get(3).cloned().unwrap_or_else(|| json!({}));
        Self {
            head: values[0].as_str().map(|head| serde_json::from_str(head).unwrap()),
            head_expires: values[1].as_i64().unwrap(),
            expires: values[2].as_i64().unwrap(),
            fields: serde_json::from_value(fields).unwrap(),
        }
    }

    fn head(&self, member: &str) -> Value {
        self.head.as_ref().unwrap()[member].clone()
    }

    /// Returns the members of each holder.
    fn holders(&self) -> HashMap<&str, HashMap<String, Value>> {
        let holders = self.fields.iter().filter(|(name, _)| name.len() == 22);
        holders.map(|(id, value)| (id.as_str(), serde_json::from_str(value).unwrap())).collect()
    }

    /// Asserts that the record of all holders has the latest expiry, that it is there as long as
    /// any holder is, and that the hash is kept as long as its content counts, and no longer.
    #[track_caller]
    fn assert_consistent(&self) {
        let holders = self.holders();
        let latest = holders.values().map(|holder| holder["expiresAtMs"].as_i64().unwrap()).max();
        let expiry = self.head.as_ref().map(|head| head["expiresAtMs"].as_i64().unwrap());
        assert_eq!(expiry, latest, "{:?}", self.fields);
        if let Some(latest) = latest {
            assert_eq!(self.head("lockId").as_str(), Some(self.fields["head"].as_str()));
            assert!(self.head_expires > 0 && self.expires >= self.head_expires);
            assert!(self.head_expires >= latest, "with the grace");
            let last = &holders[self.fields["last"].as_str()];
            assert_eq!(last["expiresAtMs"].as_i64(), Some(latest), "{:?}", self.fields);
            let first: i64 = self.fields["firstMs"].parse().unwrap();
            let frees = holders.values().map(|holder| holder["freeAtMs"].as_i64().unwrap());
            assert!(first <= frees.min().unwrap(), "{:?}", self.fields);
        }
        assert_eq!(self.expires > 0, !self.fields.is_empty(), "{:?}", self.fields);
        if !self.fields.contains_key("writer") {
            // Two readings of the clock.
            let rest = self.expires - self.head_expires;
            assert!(rest < 5_000, "{rest}: {:?}", self.fields);
        }
    }
}

#[tokio::test]
async fn shared_grants_are_stored_in_the_documented_formats() {
    let (_server, backend, mut peer) = started().await;
    let first = permit(3).with_owner(Some(Owner::new("web-3 \"blue\"").unwrap()));
    let second = permit(3);
    let grants = [granted(&backend, &first).await, granted(&backend, &second).await];
    let writer = announce(&backend, 2 * LONG).await;
    let stored = Stored::read(&mut peer).await;
    let expiries = grants.map(|grant| grant.expires_at.unix_millis());
    for (member, value) in [
        ("shared", json!(3)),
        ("lockId", json!("shared-000000000000001")),
        ("expiresAtMs", json!(expiries[1])),
        ("acquiredAtMs", json!(expiries[0] - 60_000)),
        ("fence", json!("000000000000002")),
        ("key", json!("job")),
        ("owner", json!("shared holders")),
    ] {
        assert_eq!(stored.head(member), value, "{member}");
    }
    assert_eq!(stored.head.as_ref().unwrap().len(), 7);
    let holders = stored.holders();
    for (request, expiry, fence) in [(&first, expiries[0], 1), (&second, expiries[1], 2)] {
        let holder = &holders[request.lock_id.as_str()];
        assert_eq!(holder["expiresAtMs"], json!(expiry));
        assert_eq!(holder["freeAtMs"], json!(expiry + 1_000));
        assert_eq!(holder["acquiredAtMs"], json!(expiry - 60_000));
        assert_eq!(holder["fence"], json!(format!("{fence:015}")));
        let owner = request.owner.as_ref().map(|owner| json!(owner.as_str()));
        assert_eq!(holder.get("owner"), owner.as_ref());
    }
    let announced: Value = serde_json::from_str(&stored.fields["writer"]).unwrap();
    assert_eq!((&announced["lockId"], &announced["counter"]), (&json!(writer.lock_id), &json!(2)));
    assert_eq!(stored.fields["head"], "shared-000000000000001");
    assert_eq!(stored.fields["last"], second.lock_id.as_str());
    assert_eq!(stored.fields.len(), 4 + 2);
    let until = announced["untilMs"].as_i64().unwrap();
    assert!(stored.expires >= until && until > expiries[1], "as long as the announcement");
    assert!(stored.head_expires >= expiries[1] + 1_000 && stored.head_expires < until);
    for request in [&first, &second] {
        let entry = format!("syncguard:id:{}", request.lock_id.as_str());
        assert_eq!(peer.call(&["GET", &entry]).await.unwrap().as_deref(), Some(HEAD));
        assert!(released(&backend, request).await);
        assert_eq!(peer.call(&["GET", &entry]).await.unwrap(), None);
    }
    let left = Stored::read(&mut peer).await;
    assert_eq!(left.fields.keys().collect::<Vec<_>>(), ["writer"]);
    assert!(left.expires >= until, "the announcement outlives its holders");
    backend.abandon(writer.lock_id, &writer.key).await.unwrap();
    let count = peer.call(&["DBSIZE"]).await.unwrap().unwrap();
    assert_eq!(count, "2", "the counter and the tombstone");
}

/// Every order of a few steps with holders of different lengths, chosen by a counter.
#[tokio::test]
async fn the_record_of_all_holders_follows_them_through_every_step() {
    let (_server, backend, mut peer) = started().await;
    for round in 0_u64..60 {
        let mut choices = round.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut choose = |limit: usize| {
            choices = choices.rotate_left(7).wrapping_mul(0xd129_42f0_7105_9c5d) ^ 0x5851;
            usize::try_from(choices >> 33).unwrap() % limit
        };
        let mut held: Vec<AcquireRequest> = Vec::new();
        for _ in 0..12 {
            let duration = LONG + Duration::from_secs(choose(9) as u64 * 10);
            match choose(5) {
                0 | 1 => {
                    let request = reader(duration);
                    granted(&backend, &request).await;
                    held.push(request);
                }
                _ if held.is_empty() => {}
                2 => {
                    let lock = lock_of(&held[choose(held.len())]);
                    let outcome = backend.extend(&lock, ttl(duration)).await.unwrap();
                    assert!(matches!(outcome, ExtendOutcome::Extended { .. }));
                }
                3 => {
                    let request = held.swap_remove(choose(held.len()));
                    assert!(released(&backend, &request).await);
                }
                _ => {
                    let request = held.swap_remove(choose(held.len()));
                    backend.abandon(request.lock_id, &request.key).await.unwrap();
                }
            }
            let stored = Stored::read(&mut peer).await;
            stored.assert_consistent();
            assert_eq!(stored.holders().len(), held.len());
            assert_eq!(peer.acquire("job", PEER).await.unwrap().is_some(), held.is_empty());
            peer.release(PEER).await;
        }
        for request in held {
            assert!(released(&backend, &request).await);
        }
    }
}

#[tokio::test]
async fn the_acquire_script_of_typescript_is_refused_exactly_while_a_reader_holds_the_key() {
    let (_server, backend, mut theirs) = started().await;
    let readers = [reader(LONG), reader(2 * LONG), reader(LONG)];
    for reader in &readers {
        granted(&backend, reader).await;
    }
    for reader in &readers {
        assert_eq!(theirs.acquire("job", PEER).await, Ok(None));
        assert!(released(&backend, reader).await);
    }
    assert_eq!(theirs.acquire("job", PEER).await, Ok(Some(4)), "one counter for both");
    let (reader, writer) = (reader(LONG), ask("job", LONG).with_announcement(Some(LONG)));
    for refused in [&reader, &permit(2), &writer] {
        let outcome = backend.acquire(refused).await.unwrap();
        let AcquireOutcome::Contended { holder } = outcome else { panic!("{outcome:?}") };
        let holder = holder.unwrap();
        assert!(holder.silent && holder.mode == Mode::Exclusive, "{holder:?}");
    }
    assert!(theirs.release(PEER).await);
    assert_eq!(granted(&backend, &reader).await.fence.number(), 5);
}

/// Their record stands where that of the holders stood, and the hash is still there.
#[tokio::test]
async fn a_grant_of_typescript_after_expiry_voids_the_holders_and_their_announcement() {
    let (_server, backend, mut theirs) = started().await;
    let expired = reader(SHORT);
    granted(&backend, &expired).await;
    announce(&backend, LONG).await;
    eventually("the reader has expired", async || {
        theirs.acquire("job", PEER).await.unwrap().is_some()
    })
    .await;
    assert_eq!(theirs.call(&["EXISTS", HOLDERS]).await.unwrap().unwrap(), "1");
    for held_by_them in [true, false] {
        assert!(!extended(&backend, &expired).await && !released(&backend, &expired).await);
        assert_eq!(is_locked(&backend, "job").await, held_by_them);
        backend.abandon(expired.lock_id, &expired.key).await.unwrap();
        assert_eq!(theirs.release(PEER).await, held_by_them);
    }
    granted(&backend, &reader(LONG)).await;
    assert_eq!(Stored::read(&mut theirs).await.holders().len(), 1);
}

/// An operator or an old version has removed the record, but not the hash.
#[tokio::test]
async fn holders_without_their_record_hold_nothing() {
    let (_server, backend, mut peer) = started().await;
    let lost = [reader(LONG), reader(LONG)];
    for reader in &lost {
        granted(&backend, reader).await;
    }
    peer.call(&["DEL", HEAD]).await.unwrap();
    assert!(!extended(&backend, &lost[0]).await && !is_locked(&backend, "job").await);
    let next = reader(LONG);
    granted(&backend, &next).await;
    assert!(!extended(&backend, &lost[0]).await && !released(&backend, &lost[1]).await);
    assert!(released(&backend, &next).await);
    assert!(!is_contended(&backend, "job").await);
}

#[tokio::test]
async fn the_id_of_the_record_of_all_holders_holds_nothing() {
    let (_server, backend, _peer) = started().await;
    let holder = reader(LONG);
    granted(&backend, &holder).await;
    let id = backend.lookup(&key("job").into()).await.unwrap().unwrap().lock_id;
    for lock in [LockRef::new(id, key("job")), id.into()] {
        assert!(matches!(backend.release(&lock).await.unwrap(), ReleaseOutcome::NotHeld(_)));
        let outcome = backend.extend(&lock, ttl(LONG)).await.unwrap();
        assert!(matches!(outcome, ExtendOutcome::NotHeld(_)));
    }
    backend.abandon(id, &key("job")).await.unwrap();
    assert_eq!(backend.lookup(&id.into()).await.unwrap(), None);
    assert!(extended(&backend, &holder).await);
}

#[tokio::test]
async fn neither_version_lists_the_hash_of_the_holders() {
    let (_server, backend, _peer) = started().await;
    granted(&backend, &reader(LONG)).await;
    granted(&backend, &ask("jobs", LONG)).await;
    for prefix in ["", "job"] {
        let page = backend.list(&ListRequest::new(prefix).limit(2)).await.unwrap();
        assert!(page.next.is_none() && page.locks.len() == 2, "{page:?}");
    }
}

#[tokio::test]
async fn each_operation_of_a_reader_is_one_round_trip() {
    let server = safe().start().await.unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let backend = connect(&server.url_through(proxy.address())).await;
    for warm in [true, false] {
        let commands = proxy.tally(Flow::Requests, RespArrays::default);
        let mut count = 0;
        let mut one_more = |what: &str| {
            count += 1;
            assert!(warm || commands.total() == count, "{what}: {} not {count}", commands.total());
        };
        let (holder, other) = (reader(LONG), reader(LONG));
        granted(&backend, &holder).await;
        one_more("acquire");
        granted(&backend, &holder).await;
        one_more("acquire again");
        let writer = announce(&backend, LONG).await;
        one_more("announce");
        assert!(is_refused(&backend, &other).await);
        one_more("refused acquire");
        assert!(extended(&backend, &holder).await);
        one_more("extend");
        backend.abandon(writer.lock_id, &writer.key).await.unwrap();
        one_more("abandon");
        assert!(released(&backend, &holder).await);
        one_more("release");
    }
}

#[tokio::test]
async fn damaged_holders_are_reported_kept_and_cleared_by_a_forced_release() {
    let (_server, backend, mut peer) = started().await;
    let (own, other) = (reader(LONG), reader(LONG));
    let (id, other_id) = (own.lock_id.as_str(), other.lock_id.as_str());
    let all: [&[&str]; 8] = [
        &["DEL", HOLDERS],
        &["HDEL", HOLDERS, "head"],
        &["HSET", HOLDERS, "head", "shared-000000000000999"],
        &["HSET", HOLDERS, "firstMs", "soon"],
        &["HDEL", HOLDERS, "last"],
        &["HSET", HOLDERS, "writer", "{}"],
        &["HSET", HOLDERS, id, "nonsense"],
        &["SET", HOLDERS, "text"],
    ];
    let assert_typed = |outcome: Result<(), Error>, what: &[&str]| {
        let error = error_of(outcome, ErrorKind::Internal);
        assert!(!error.may_have_applied() && !error.is_retryable(), "{what:?}: {error:?}");
    };
    for damage in all {
        granted(&backend, &own).await;
        granted(&backend, &other).await;
        peer.call(damage).await.unwrap();
        let digest = ["EVAL", DIGEST, "1", HOLDERS];
        let before = peer.call(&digest).await.unwrap();
        assert_typed(backend.acquire(&own).await.map(drop), damage);
        assert_typed(backend.extend(&lock_of(&own), ttl(LONG)).await.map(drop), damage);
        assert_typed(backend.release(&lock_of(&own)).await.map(drop), damage);
        assert_eq!(peer.call(&digest).await.unwrap(), before, "{damage:?}");
        assert_eq!(peer.acquire("job", PEER).await, Ok(None), "{damage:?}");
        let lookup = backend.lookup(&key("job").into()).await;
        let forced = backend.force_release(&key("job")).await;
        // A lookup does not need the fields that only save a survey.
        assert_eq!(lookup.is_ok(), forced.is_ok(), "{damage:?}: {lookup:?} {forced:?}");
        if let Err(error) = &forced {
            assert_typed(lookup.map(drop), damage);
            assert!(error.has_applied(), "{damage:?}: {error:?}");
        }
        assert_eq!(peer.call(&["EXISTS", HEAD, HOLDERS]).await.unwrap().unwrap(), "0");
    }
    // The damage of one holder leaves the others alone, and an abandoned holder ends in any case.
    granted(&backend, &own).await;
    granted(&backend, &other).await;
    peer.call(&["HSET", HOLDERS, other_id, "nonsense"]).await.unwrap();
    assert!(extended(&backend, &own).await);
    backend.abandon(own.lock_id, &own.key).await.unwrap();
    assert_eq!(peer.call(&["HEXISTS", HOLDERS, id]).await.unwrap().unwrap(), "0");
}

/// What the tasks of a storm agree on.
#[derive(Default)]
struct Storm {
    key: RwLock<()>,
    reads: AtomicUsize,
    writes: AtomicUsize,
    theirs: AtomicUsize,
}

impl Storm {
    const ROUNDS: usize = 150;

    async fn read(self: Arc<Self>, backend: RedisBackend) {
        for _ in 0..Self::ROUNDS {
            let request = reader(LONG);
            if is_refused(&backend, &request).await {
                continue;
            }
            let inside = self.key.try_read().expect("no writer is beside a reader");
            tokio::task::yield_now().await;
            self.reads.fetch_add(1, Ordering::Relaxed);
            drop(inside);
            assert!(released(&backend, &request).await);
        }
    }

    async fn write(self: Arc<Self>, backend: RedisBackend) {
        for _ in 0..Self::ROUNDS {
            // Readers are kept out for a moment, so that writers have a turn.
            let request = ask("job", LONG).with_announcement(Some(Duration::from_millis(5)));
            for _ in 0..4 {
                if is_refused(&backend, &request).await {
                    continue;
                }
                let inside = self.key.try_write().expect("a writer is alone");
                tokio::task::yield_now().await;
                self.writes.fetch_add(1, Ordering::Relaxed);
                drop(inside);
                assert!(released(&backend, &request).await);
                break;
            }
        }
    }

    async fn write_as_typescript(self: Arc<Self>, mut peer: RedisPeer) {
        for _ in 0..2 * Self::ROUNDS {
            let id = LockId::mint().unwrap();
            if peer.acquire("job", id.as_str()).await.unwrap().is_none() {
                continue;
            }
            let inside = self.key.try_write().expect("a writer of theirs is alone");
            tokio::task::yield_now().await;
            self.theirs.fetch_add(1, Ordering::Relaxed);
            drop(inside);
            assert!(peer.release(id.as_str()).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_writer_of_either_client_is_beside_a_reader_in_a_storm() {
    let (server, backend, mut peer) = started().await;
    let (storm, other) = (Arc::new(Storm::default()), connect(&server.url()).await);
    let mut tasks = JoinSet::new();
    for number in 0..3 {
        for backend in [&backend, &other] {
            tasks.spawn(storm.clone().read(backend.clone()));
        }
        let client = RedisPeer::connect(server.address(), "syncguard").await;
        tasks.spawn(storm.clone().write_as_typescript(client));
        if number > 0 {
            tasks.spawn(storm.clone().write(other.clone()));
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    for (who, count) in
        [("reads", &storm.reads), ("writes", &storm.writes), ("theirs", &storm.theirs)]
    {
        let count = count.load(Ordering::Relaxed);
        assert!(count > 10, "only {count} {who}");
    }
    assert!(!is_locked(&backend, "job").await);
    let grants = [&storm.reads, &storm.writes, &storm.theirs].map(|n| n.load(Ordering::Relaxed));
    let counter = peer.call(&["GET", "syncguard:fence:syncguard:job"]).await.unwrap().unwrap();
    assert_eq!(counter, grants.iter().sum::<usize>().to_string(), "a fence for each grant");
}

/// The three names of a reader share a slot, and exist from its grant on.
#[tokio::test]
async fn a_reader_whose_slot_moves_keeps_its_grant() {
    let cluster = RedisCluster::start_with(safe()).await.unwrap();
    let url = format!("redis-cluster://{}", cluster.addresses()[0]);
    let backend = RedisBackend::connect(config(&url)).await.unwrap();
    let (holder, other) = (reader(LONG), reader(LONG));
    granted(&backend, &holder).await;
    let slot = cluster.slot_of("{syncguard:job}").await.unwrap();
    let target = (cluster.owner_of(slot).await.unwrap() + 1) % cluster.nodes().len();
    let migration = cluster.migrate(slot, target).await.unwrap();
    assert!(extended(&backend, &holder).await, "its names are still where they were");
    migration.move_keys().await.unwrap();
    let error = error_of(backend.release(&lock_of(&holder)).await, ErrorKind::ServiceUnavailable);
    assert!(!error.may_have_applied() && error.is_retryable(), "{error:?}");
    migration.finish().await.unwrap();
    assert!(extended(&backend, &holder).await);
    granted(&backend, &other).await;
    assert!(is_contended(&backend, "job").await);
    for request in [&holder, &other] {
        assert!(released(&backend, request).await);
    }
    assert!(!is_contended(&backend, "job").await);
}
