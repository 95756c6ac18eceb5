//! Documents that cannot be read: reported, not granted over, kept until a forced release, never lost.

mod corpus;

use std::{collections::BTreeMap, sync::Arc};

use corpus::{Damaged, Right, corpus, marks_are_readable, string};
use firestore_emulator::Emulator;
use syncguard_core::{
    AcquireOutcome, AcquireRequest, Error, ErrorKind, ExtendOutcome, ListRequest, LockBackend,
    LockRef, ReleaseOutcome,
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

/// How many keys share a collection and are asked about at a time. A query for a lock id that no document
/// names reads the whole collection, and those that run at the same time share that.
const TOGETHER: usize = 100;

/// What is asked about a lock that cannot be read, beside an acquire: one of these for each, in turn.
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
        match (self.right(), backend.acquire(&ask(&self.key, LONG)).await) {
            (Right::Grant(fence), Ok(AcquireOutcome::Granted(grant))) => {
                assert_eq!(grant.fence.number(), fence, "{self:?}");
            }
            (Right::Refuse, Ok(AcquireOutcome::Contended { .. })) => {}
            (Right::NoLock, Err(error)) => {
                assert!(error.to_string().contains("on record cannot be read"), "{error}");
                self.is_refused(&error);
            }
            (Right::NoCounter, Err(error)) => self.is_refused(&error),
            (right, outcome) => panic!("{outcome:?} instead of {right:?}: {self:?}"),
        }
    }

    fn is_refused(&self, error: &Error) {
        assert_eq!(error.kind(), ErrorKind::Internal, "{error}: {self:?}");
        assert!(!error.may_have_applied(), "{error}: {self:?}");
    }

    /// Asks about a lock that cannot be read what changes nothing.
    async fn ask(&self, request: Request, backend: &FirestoreBackend) {
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
        // A document that names another id says nothing about this one.
        let is_by_key = matches!(request, Request::IsLocked | Request::LookupByKey);
        let is_error = is_by_key || self.has_id();
        assert_eq!(answer.is_err(), is_error, "{answer:?} for {request:?}: {self:?}");
        if let Err(error) = answer {
            self.is_refused(&error);
        }
    }

    /// Abandons its id, which marks the counter.
    async fn abandon(&self, backend: &FirestoreBackend) {
        let (lock, key) = (self.lock(), key(&self.key));
        let abandoned = backend.abandon(lock.lock_id, &key).await;
        let marks = self.counter.as_ref().is_none_or(marks_are_readable);
        assert_eq!(abandoned.is_ok(), marks, "{abandoned:?}: {self:?}");
        if let Err(error) = abandoned {
            return self.is_refused(&error);
        }
        let request = AcquireRequest::new(key, lock.lock_id, ttl(LONG));
        error_of(backend.acquire(&request).await, ErrorKind::Aborted);
    }

    /// Forces a lock free that cannot be read.
    async fn force(&self, backend: &FirestoreBackend) {
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
        let (backend, raw) = (backend.connect().unwrap(), Raw::connect(emulator));
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

    /// Nothing was granted over what cannot be read, and nothing of a live lock has changed.
    async fn is_untouched(&self) {
        let [locks, counters] = self.documents().await;
        for damaged in self.damaged.iter().filter(|it| !matches!(it.right(), Right::Grant(_))) {
            let [lock, counter] = self.paths(damaged);
            same(locks.get(&lock), damaged.lock.as_ref(), damaged);
            same(counters.get(&counter), damaged.counter.as_ref(), damaged);
        }
    }

    /// A forced release has removed a lock and nothing else; an abandon has added a mark and nothing else.
    async fn is_ended(&self) {
        let [locks, counters] = self.documents().await;
        for (number, damaged) in self.unreadable() {
            let [lock, counter] = self.paths(damaged);
            let is_forced = Request::of(number) == Request::ForceRelease;
            same(locks.get(&lock), damaged.lock.as_ref().filter(|_| !is_forced), damaged);
            let [now, before] = [counters.get(&counter), damaged.counter.as_ref()];
            let unmarked = |fields: &Fields| {
                let mut fields = fields.clone();
                fields.remove("abandoned");
                fields
            };
            if is_forced {
                same(now, before, damaged);
            } else if before.is_some() {
                same(now.map(unmarked).as_ref(), before.map(unmarked).as_ref(), damaged);
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
        damaged.filter(|(_, damaged)| damaged.right() == Right::NoLock)
    }

    /// The keys that the live locks name.
    fn live(&self) -> Vec<String> {
        let named = self.damaged.iter().filter_map(|damaged| match damaged.right() {
            Right::Grant(_) => Some(damaged.key.clone()),
            Right::Refuse => Some(string(damaged.lock.as_ref()?, "key")?.to_owned()),
            Right::NoLock | Right::NoCounter => None,
        });
        let mut named: Vec<_> = named.collect();
        named.sort();
        named
    }
}

/// Compares by what is shown, since NaN equals nothing.
#[track_caller]
fn same(left: Option<&Fields>, right: Option<&Fields>, damaged: &Damaged) {
    assert_eq!(format!("{left:?}"), format!("{right:?}"), "{damaged:?}");
}

/// The keys of all locks that a list shows, page by page.
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

async fn nothing_is_lost(planted: Arc<Planted>) {
    planted
        .each(|planted, number| async move {
            let (damaged, backend) = (&planted.damaged[number], &planted.backend);
            damaged.acquire(backend).await;
            if damaged.right() == Right::NoLock {
                damaged.ask(Request::of(number), backend).await;
            }
        })
        .await;
    planted.is_untouched().await;
    let (live, backend) = (planted.live(), &planted.backend);
    assert_eq!(listed(backend, 1_000).await, live);
    // No page begins between documents that name the same key.
    let own = |keys: Vec<String>| keys.into_iter().filter(|key| key.starts_with('k')).collect();
    let [shown, live]: [Vec<String>; 2] = [listed(backend, 30).await, live].map(own);
    assert_eq!(shown, live);
    planted
        .each(|planted, number| async move {
            let (damaged, backend) = (&planted.damaged[number], &planted.backend);
            match (damaged.right(), Request::of(number)) {
                (Right::NoLock, Request::ForceRelease) => damaged.force(backend).await,
                (Right::NoLock, Request::Abandon) => damaged.abandon(backend).await,
                (Right::NoCounter, _) => damaged.abandon(backend).await,
                _ => {}
            }
        })
        .await;
    planted.is_ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_that_cannot_be_read_are_not_granted_over_and_not_lost() {
    let (emulator, mut corpus) = (start().await, corpus());
    let count = |is: fn(Right) -> bool| corpus.iter().filter(|it| is(it.right())).count();
    let unreadable = count(|right| matches!(right, Right::NoLock | Right::NoCounter));
    let granted = count(|right| matches!(right, Right::Grant(_)));
    assert!(corpus.len() >= 2_000 && unreadable >= 1_000 && granted >= 100);
    for number in 0.. {
        if corpus.is_empty() {
            break;
        }
        let some = corpus.drain(..TOGETHER.min(corpus.len())).collect();
        nothing_is_lost(Planted::new(&emulator, number, some).await).await;
    }
}

#[tokio::test]
async fn a_lock_that_cannot_be_read_is_left_out_of_a_list_and_counted() {
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
async fn a_forced_release_clears_a_lock_that_cannot_be_read_and_keeps_its_counter() {
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
