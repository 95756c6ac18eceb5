//! Documents that cannot be read: reported, never overwritten by a grant, kept until a forced
//! release.

mod corpus;

use std::{collections::BTreeMap, sync::Arc};

use corpus::{Damaged, Expected, corpus, string, tombstones_are_readable};
use firestore_emulator::Emulator;
use syncguard_core::{
    Error, ErrorKind, ReleaseOutcome,
    backend::{AcquireOutcome, AcquireRequest, ExtendOutcome, ListRequest, LockBackend, LockRef},
};
use syncguard_firestore::FirestoreBackend;
use syncguard_testkit::{
    log_capture::EventCounter,
    operations::{LONG, ask, error_of, granted, is_locked, key, ttl},
};
use tokio::task::JoinSet;

use crate::{
    config, connect,
    raw::{Fields, Raw, text},
    start,
};

/// The number of keys that share a collection and are tested concurrently. A query for a lock id
/// that no document contains reads the whole collection, and concurrent queries share that scan.
const BATCH_SIZE: usize = 100;

/// The requests for locks that cannot be read. Each lock gets an acquire and one of these, in turn.
const REQUESTS: [Request; 7] = [
    Request::IsLocked,
    Request::LookupByKey,
    Request::LookupById,
    Request::Extend,
    Request::Release,
    Request::Abandon,
    Request::ForceRelease,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    IsLocked,
    LookupByKey,
    LookupById,
    Extend,
    Release,
    Abandon,
    ForceRelease,
}

impl Request {
    fn of(number: usize) -> Self {
        REQUESTS[number % REQUESTS.len()]
    }
}

impl Damaged {
    fn lock(&self) -> LockRef {
        LockRef::new(self.id().parse().unwrap(), key(&self.key))
    }

    /// Acquires under another id.
    async fn acquire(&self, backend: &FirestoreBackend) {
        match (self.expected(), backend.acquire(&ask(&self.key, LONG)).await) {
            (Expected::Grant(fence), Ok(AcquireOutcome::Granted(grant))) => {
                assert_eq!(grant.fence.number(), fence, "{self:?}");
            }
            (Expected::Contended, Ok(AcquireOutcome::Contended { .. })) => {}
            (Expected::UnreadableLock, Err(error)) => {
                assert!(error.to_string().contains("cannot be read"), "{error}");
                self.assert_internal_error(&error);
            }
            (Expected::UnusableCounter, Err(error)) => self.assert_internal_error(&error),
            (expected, outcome) => panic!("{outcome:?} instead of {expected:?}: {self:?}"),
        }
    }

    fn assert_internal_error(&self, error: &Error) {
        assert_eq!(error.kind(), ErrorKind::Internal, "{error}: {self:?}");
        assert!(!error.may_have_applied(), "{error}: {self:?}");
    }

    /// Sends a request that changes nothing for a lock that cannot be read.
    async fn send(&self, request: Request, backend: &FirestoreBackend) {
        let lock = self.lock();
        let answer = match request {
            Request::IsLocked => backend.is_locked(&key(&self.key)).await.map(drop),
            Request::LookupByKey => backend.lookup(&key(&self.key).into()).await.map(drop),
            Request::LookupById => backend.lookup(&lock.lock_id.into()).await.map(|found| {
                assert!(found.is_none(), "{found:?}: {self:?}");
            }),
            Request::Extend => backend.extend(&lock, ttl(LONG)).await.map(|extended| {
                assert!(matches!(extended, ExtendOutcome::NotHeld(_)), "{extended:?}: {self:?}");
            }),
            Request::Release => backend.release(&lock).await.map(|released| {
                assert!(matches!(released, ReleaseOutcome::NotHeld(_)), "{released:?}: {self:?}");
            }),
            Request::Abandon | Request::ForceRelease => return,
        };
        // A document with another id does not concern this one.
        let is_by_key = matches!(request, Request::IsLocked | Request::LookupByKey);
        let is_error = is_by_key || self.has_id();
        assert_eq!(answer.is_err(), is_error, "{answer:?} for {request:?}: {self:?}");
        if let Err(error) = answer {
            self.assert_internal_error(&error);
        }
    }

    /// Abandons its id, which adds a tombstone to the counter.
    async fn abandon(&self, backend: &FirestoreBackend) {
        let (lock, key) = (self.lock(), key(&self.key));
        let abandoned = backend.abandon(lock.lock_id, &key).await;
        let readable = self.counter.as_ref().is_none_or(tombstones_are_readable);
        assert_eq!(abandoned.is_ok(), readable, "{abandoned:?}: {self:?}");
        if let Err(error) = abandoned {
            return self.assert_internal_error(&error);
        }
        let request = AcquireRequest::new(key, lock.lock_id, ttl(LONG));
        error_of(backend.acquire(&request).await, ErrorKind::Aborted);
    }

    /// Force-releases a lock that cannot be read.
    async fn force_release(&self, backend: &FirestoreBackend) {
        let key = key(&self.key);
        let error = error_of(backend.force_release(&key).await, ErrorKind::Internal);
        assert!(error.to_string().contains("it was cleared"), "{error}: {self:?}");
        assert!(error.has_applied(), "{error}: {self:?}");
        assert!(!backend.is_locked(&key).await.unwrap(), "{self:?}");
    }
}

/// A collection of locks and one of counters, with damaged documents in them.
struct Planted {
    damaged: Vec<Damaged>,
    backend: FirestoreBackend,
    raw: Raw,
    collections: [String; 2],
}

impl Planted {
    /// Writes all documents at once.
    async fn new(emulator: &Emulator, number: usize, damaged: Vec<Damaged>) -> Arc<Self> {
        let collections = ["locks", "fences"].map(|name| format!("{name}{number}"));
        let [locks, fences] = collections.clone();
        let backend = config(emulator).collections(locks, fences).request_timeout(LONG);
        let (backend, raw) = (FirestoreBackend::connect(backend).unwrap(), Raw::connect(emulator));
        let planted = Self { damaged, backend, raw, collections };
        let mut documents = BTreeMap::new();
        for damaged in &planted.damaged {
            let [lock, counter] = planted.paths(damaged);
            documents.extend(damaged.lock.clone().map(|fields| (lock, fields)));
            documents.extend(damaged.counter.clone().map(|fields| (counter, fields)));
        }
        planted.raw.set_all(documents).await;
        Arc::new(planted)
    }

    fn paths(&self, damaged: &Damaged) -> [String; 2] {
        let [locks, fences] = &self.collections;
        [format!("{locks}/{}", damaged.key), format!("{fences}/fence:{}", damaged.key)]
    }

    /// Does the same for all keys at once.
    async fn each<F>(self: &Arc<Self>, work: impl Fn(Arc<Self>, usize) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        for number in 0..self.damaged.len() {
            tasks.spawn(work(self.clone(), number));
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    }

    /// Asserts that no grant has overwritten an unreadable document, and that no live lock has
    /// changed.
    async fn assert_unchanged(&self) {
        let [locks, counters] = self.documents().await;
        for damaged in self.damaged.iter().filter(|it| !matches!(it.expected(), Expected::Grant(_)))
        {
            let [lock, counter] = self.paths(damaged);
            assert_same(locks.get(&lock), damaged.lock.as_ref(), damaged);
            assert_same(counters.get(&counter), damaged.counter.as_ref(), damaged);
        }
    }

    /// Asserts that a forced release has removed only the lock, and that an abandon has added only
    /// a tombstone.
    async fn assert_only_expected_changes(&self) {
        let [locks, counters] = self.documents().await;
        for (number, damaged) in self.unreadable() {
            let [lock, counter] = self.paths(damaged);
            let was_force_released = Request::of(number) == Request::ForceRelease;
            assert_same(
                locks.get(&lock),
                damaged.lock.as_ref().filter(|_| !was_force_released),
                damaged,
            );
            let [now, before] = [counters.get(&counter), damaged.counter.as_ref()];
            let without_tombstones = |fields: &Fields| {
                let mut fields = fields.clone();
                fields.remove("abandoned");
                fields
            };
            if was_force_released {
                assert_same(now, before, damaged);
            } else if before.is_some() {
                assert_same(
                    now.map(without_tombstones).as_ref(),
                    before.map(without_tombstones).as_ref(),
                    damaged,
                );
            }
        }
    }

    async fn documents(&self) -> [BTreeMap<String, Fields>; 2] {
        let [locks, fences] = &self.collections;
        [self.raw.all(locks).await, self.raw.all(fences).await]
    }

    /// The locks that cannot be read.
    fn unreadable(&self) -> impl Iterator<Item = (usize, &Damaged)> {
        let damaged = self.damaged.iter().enumerate();
        damaged.filter(|(_, damaged)| damaged.expected() == Expected::UnreadableLock)
    }

    /// The keys that the live locks name.
    fn live(&self) -> Vec<String> {
        let named = self.damaged.iter().filter_map(|damaged| match damaged.expected() {
            Expected::Grant(_) => Some(damaged.key.clone()),
            Expected::Contended => Some(string(damaged.lock.as_ref()?, "key")?.to_owned()),
            Expected::UnreadableLock | Expected::UnusableCounter => None,
        });
        let mut named: Vec<_> = named.collect();
        named.sort();
        named
    }
}

/// Compares the debug output, since NaN does not equal itself.
#[track_caller]
fn assert_same(left: Option<&Fields>, expected: Option<&Fields>, damaged: &Damaged) {
    assert_eq!(format!("{left:?}"), format!("{expected:?}"), "{damaged:?}");
}

/// Lists all locks page by page, and returns their sorted keys.
async fn listed(backend: &FirestoreBackend, limit: usize) -> Vec<String> {
    let (mut keys, mut request) = (Vec::new(), ListRequest::new("").limit(limit));
    loop {
        let page = backend.list(&request).await.unwrap();
        keys.extend(page.locks.iter().map(|lock| lock.key.as_str().to_owned()));
        request.after = page.next;
        if request.after.is_none() {
            keys.sort();
            return keys;
        }
    }
}

async fn check_batch(planted: Arc<Planted>) {
    planted
        .each(|planted, number| async move {
            let (damaged, backend) = (&planted.damaged[number], &planted.backend);
            damaged.acquire(backend).await;
            if damaged.expected() == Expected::UnreadableLock {
                damaged.send(Request::of(number), backend).await;
            }
        })
        .await;
    planted.assert_unchanged().await;
    let (live, backend) = (planted.live(), &planted.backend);
    assert_eq!(listed(backend, 1_000).await, live);
    // No page starts between documents with the same key.
    let own = |keys: Vec<String>| keys.into_iter().filter(|key| key.starts_with('k')).collect();
    let [shown, live]: [Vec<String>; 2] = [listed(backend, 30).await, live].map(own);
    assert_eq!(shown, live);
    planted
        .each(|planted, number| async move {
            let (damaged, backend) = (&planted.damaged[number], &planted.backend);
            match (damaged.expected(), Request::of(number)) {
                (Expected::UnreadableLock, Request::ForceRelease) => {
                    damaged.force_release(backend).await
                }
                (Expected::UnreadableLock, Request::Abandon) => damaged.abandon(backend).await,
                (Expected::UnusableCounter, _) => damaged.abandon(backend).await,
                _ => {}
            }
        })
        .await;
    planted.assert_only_expected_changes().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreadable_documents_are_neither_overwritten_by_a_grant_nor_lost() {
    let (emulator, mut corpus) = (start().await, corpus());
    let count = |is: fn(Expected) -> bool| corpus.iter().filter(|it| is(it.expected())).count();
    let unreadable =
        count(|expected| matches!(expected, Expected::UnreadableLock | Expected::UnusableCounter));
    let granted = count(|expected| matches!(expected, Expected::Grant(_)));
    assert!(corpus.len() >= 2_000 && unreadable >= 1_000 && granted >= 100);
    for number in 0.. {
        if corpus.is_empty() {
            break;
        }
        let batch = corpus.drain(..BATCH_SIZE.min(corpus.len())).collect();
        check_batch(Planted::new(&emulator, number, batch).await).await;
    }
}

#[tokio::test]
async fn an_unreadable_lock_is_omitted_from_a_list_and_counted_in_the_log() {
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    for (name, field) in [("a", Some("fence")), ("b", None), ("c", Some("lockId"))] {
        granted(&backend, &ask(name, LONG)).await;
        let path = format!("locks/{name}");
        let mut lock = raw.read(&path).await.unwrap();
        lock.extend(field.map(|field| (field.to_owned(), text("seven"))));
        raw.set(&path, lock).await.unwrap();
    }
    let (heard, _hearing) = EventCounter::install("unreadable");
    assert_eq!(listed(&backend, 2).await, ["b"]);
    assert_eq!(heard.count(), 2, "on each of two pages");
}

#[tokio::test]
async fn a_forced_release_clears_an_unreadable_lock_and_keeps_its_counter() {
    let emulator = start().await;
    let (backend, raw) = (connect(&emulator), Raw::connect(&emulator));
    granted(&backend, &ask("job", LONG)).await;
    let mut lock = raw.read("locks/job").await.unwrap();
    lock.insert("lockId".to_owned(), text("none of ours"));
    raw.set("locks/job", lock).await.unwrap();
    let error = error_of(backend.force_release(&key("job")).await, ErrorKind::Internal);
    assert!(error.to_string().contains("(lockId); it was cleared"), "{error}");
    assert!(error.has_applied() && !is_locked(&backend, "job").await, "{error}");
    assert_eq!(backend.force_release(&key("job")).await.unwrap(), None);
    assert_eq!(granted(&backend, &ask("job", LONG)).await.fence.number(), 2);
}
