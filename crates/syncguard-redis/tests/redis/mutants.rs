//! Thousands of damaged records. For each of them, every operation returns a correct outcome or a
//! typed error. No grant replaces a record that cannot be read, and the record stays unchanged.

use std::sync::Arc;

use serde_json::Value;
use syncguard_core::{
    Error, ErrorKind, LockId, ReleaseOutcome,
    backend::{
        AcquireOutcome, AcquireRequest, ExtendOutcome, ListRequest, LockBackend, LockRecord,
        LockRef, NotHeld,
    },
};
use syncguard_redis::RedisBackend;
use syncguard_testkit::{
    mutants::each,
    operations::{LONG, ask, granted, key, ttl},
    server::RedisServer,
    typescript::RedisPeer,
};

use crate::{
    connect,
    corpus::{ID, KEY, ValidRecord, may_be_replaced, texts},
    safe,
};

/// Enough that the client sends calls in batches.
const CONCURRENCY: usize = 64;

/// The number of records that one command writes or reads.
const CHUNK: usize = 500;

/// Returns the values of all keys as one text.
const READ: &str = "return cjson.encode(redis.call('MGET', unpack(KEYS)))";

/// A damaged record with its own key and id.
struct Mutant {
    name: String,
    id: LockId,
    text: String,
    valid: Option<ValidRecord>,
    /// The text contains the id.
    may_be_own: bool,
    may_be_replaced: bool,
}

impl Mutant {
    fn new((number, text): (usize, String)) -> Self {
        let (name, id) = (format!("job-{number}"), format!("{number:022}"));
        let quoted = |text: &str| format!("\"{text}\"");
        let text = text.replace(ID, &quoted(&id)).replace(KEY, &quoted(&name));
        let (valid, may_be_own) = (ValidRecord::read(&text), text.contains(&id));
        let may_be_replaced = may_be_replaced(&text);
        Self { name, id: id.parse().unwrap(), text, valid, may_be_own, may_be_replaced }
    }

    fn is_own(&self) -> bool {
        self.valid.as_ref().is_some_and(|record| record.lock_id == self.id.as_str())
    }

    fn is_live(&self) -> bool {
        self.valid.as_ref().is_some_and(|record| !record.is_expired())
    }

    fn is_expired(&self) -> bool {
        self.valid.as_ref().is_some_and(ValidRecord::is_expired)
    }

    /// Returns a reference to the lock by its own id, with its key or by the index.
    fn lock(&self) -> LockRef {
        match self.text.len() % 2 {
            0 => LockRef::new(self.id, key(&self.name)),
            _ => self.id.into(),
        }
    }

    fn request(&self) -> AcquireRequest {
        AcquireRequest::new(key(&self.name), self.id, ttl(LONG))
    }

    /// Returns the names of the lock, of its counter, and of the index of its id.
    fn stored(&self) -> [String; 3] {
        let lock = format!("syncguard:{}", self.name);
        [
            lock.clone(),
            format!("syncguard:fence:{lock}"),
            format!("syncguard:id:{}", self.id.as_str()),
        ]
    }

    /// Asserts that an error reports that the record cannot be read and that nothing was applied.
    #[track_caller]
    fn assert_unreadable(&self, error: &Error) {
        assert_eq!(error.kind(), ErrorKind::Internal, "{}: {error:?}", self.text);
        assert!(!error.may_have_applied(), "{}: {error:?}", self.text);
        assert!(error.to_string().contains("cannot be read"), "{}: {error}", self.text);
    }

    /// Acquires under another id.
    async fn acquire(&self, backend: &RedisBackend) {
        let request = ask(&self.name, LONG);
        let outcome = backend.acquire(&request).await;
        let is_granted = matches!(outcome, Ok(AcquireOutcome::Granted(_)));
        match outcome {
            Ok(_) if self.valid.is_some() => {
                assert_eq!(is_granted, !self.is_live(), "{}", self.text)
            }
            Ok(_) => assert!(!is_granted || self.may_be_replaced, "{}", self.text),
            Err(error) => {
                assert!(self.valid.is_none(), "{}: {error}", self.text);
                self.assert_unreadable(&error);
            }
        }
    }

    /// Acquires again under its own id.
    async fn acquire_again(&self, backend: &RedisBackend) {
        match backend.acquire(&self.request()).await {
            Ok(AcquireOutcome::Granted(grant)) => {
                assert!(self.is_own() && self.is_live(), "{}", self.text);
                let fence = format!("\"{}\"", grant.fence);
                assert!(self.text.contains(&fence), "{}", self.text);
            }
            Ok(AcquireOutcome::Contended { .. }) => assert!(!self.is_own(), "{}", self.text),
            // The id may hold the lock, so such an error must not report that nothing was granted.
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Internal, "{}: {error:?}", self.text);
                assert!(!error.may_have_applied() || self.may_be_own, "{}", self.text);
            }
        }
    }

    /// Looks up the lock by its key and by its id, and returns whether the key was found.
    async fn look_up(&self, backend: &RedisBackend) -> bool {
        let seen = self.check_lookup(backend.lookup(&key(&self.name).into()).await);
        let found = self.check_lookup(backend.lookup(&self.id.into()).await);
        assert_eq!(found, seen && self.is_own(), "{}", self.text);
        // It reads as a lookup does, so a part of the records is enough.
        if self.text.len().is_multiple_of(4) {
            match backend.is_locked(&key(&self.name)).await {
                Ok(locked) => assert_eq!(locked, seen, "{}", self.text),
                Err(error) => self.assert_unreadable(&error),
            }
        }
        seen
    }

    /// Extends, releases or abandons under an id that does not hold the lock.
    async fn request_as_non_holder(&self, backend: &RedisBackend) {
        // If the record has an id, the holder is known.
        let has_id = self.text.contains(r#""lockId":""#);
        let other = LockRef::new(LockId::mint().unwrap(), key(&self.name));
        match self.text.len() % 3 {
            0 => match backend.extend(&other, ttl(LONG)).await {
                Ok(ExtendOutcome::NotHeld(_)) if has_id => {}
                Err(error) => self.assert_unreadable(&error),
                outcome => panic!("{}: {outcome:?}", self.text),
            },
            1 => match backend.release(&other).await {
                Ok(ReleaseOutcome::NotHeld(NotHeld::NotFound)) if has_id => {}
                Err(error) => self.assert_unreadable(&error),
                outcome => panic!("{}: {outcome:?}", self.text),
            },
            _ => backend.abandon(other.lock_id, &key(&self.name)).await.unwrap(),
        }
    }

    /// Checks the result of a lookup, and returns whether it found a lock.
    fn check_lookup(&self, answer: Result<Option<LockRecord>, Error>) -> bool {
        match (&answer, &self.valid) {
            (Ok(Some(record)), Some(valid)) => {
                let is_read = record.lock_id.as_str() == valid.lock_id && self.is_live();
                assert!(is_read, "{}: {record:?}", self.text);
            }
            // A lookup by id does not find a lock of another id.
            (Ok(None), Some(_)) => assert!(!self.is_live() || !self.is_own(), "{}", self.text),
            (Ok(found), None) => panic!("{} was read as {found:?}", self.text),
            // A key, an id or a fence may be a text and still be invalid.
            (Err(error), valid) => {
                assert!(valid.is_none() || self.is_live(), "{}: {error}", self.text);
                self.assert_unreadable(error);
            }
        }
        answer.is_ok_and(|found| found.is_some())
    }

    /// Extends the grant of its own id, and returns whether the id held the lock.
    async fn extend(&self, backend: &RedisBackend) -> bool {
        let outcome = backend.extend(&self.lock(), ttl(LONG)).await;
        let extended = matches!(outcome, Ok(ExtendOutcome::Extended { .. }));
        // An infinite number in an unknown member cannot be written back.
        if self.valid.is_some() && !self.text.contains("1e999") {
            assert!(outcome.is_ok(), "{}: {outcome:?}", self.text);
            assert_eq!(extended, self.is_own() && self.is_live(), "{}", self.text);
        }
        self.check_outcome(extended, outcome.err())
    }

    /// Releases the grant of its own id, and returns whether the id held the lock.
    async fn release(&self, backend: &RedisBackend) -> bool {
        let outcome = backend.release(&self.lock()).await;
        let released = matches!(outcome, Ok(ReleaseOutcome::Released));
        if self.valid.is_some() {
            assert!(outcome.is_ok() && released == self.is_own(), "{}: {outcome:?}", self.text);
        }
        self.check_outcome(released, outcome.err())
    }

    /// Checks that only an id that the record may name holds the lock, and that an error reports an
    /// unreadable record.
    fn check_outcome(&self, is_held: bool, error: Option<Error>) -> bool {
        assert!(!is_held || self.may_be_own, "{}", self.text);
        error.iter().for_each(|error| self.assert_unreadable(error));
        is_held
    }

    /// Abandons its own id, under which nothing is granted from then on.
    async fn abandon(&self, backend: &RedisBackend) {
        backend.abandon(self.id, &key(&self.name)).await.unwrap();
        let again = backend.acquire(&self.request()).await;
        assert!(!matches!(again, Ok(AcquireOutcome::Granted(_))), "{}: {again:?}", self.text);
    }

    /// Releases it by force, and returns whether it was a lock. The counter stays, whatever the
    /// record was.
    async fn force_release(&self, backend: &RedisBackend) -> bool {
        let ended = backend.force_release(&key(&self.name)).await;
        assert!(ended.as_ref().err().is_none_or(Error::has_applied), "{ended:?}: {}", self.text);
        let next = granted(backend, &ask(&self.name, LONG)).await;
        assert_eq!(next.fence.number(), 6, "{}", self.text);
        ended.is_ok_and(|record| record.is_some())
    }
}

/// The values under the names of a lock: the record, the counter and the index.
type Stored = [Option<String>; 3];

/// A backend, and a direct connection that writes and reads what is stored.
struct Bench {
    backend: RedisBackend,
    bare: RedisPeer,
    mutants: Arc<Vec<Mutant>>,
    _server: RedisServer,
}

impl Bench {
    async fn start() -> Self {
        let server = safe().setting("appendonly", "no").start().await.unwrap();
        let (backend, bare) =
            (connect(&server.url()).await, RedisPeer::connect(server.address(), "syncguard").await);
        let mutants: Vec<_> = texts().into_iter().enumerate().map(Mutant::new).collect();
        let valid = mutants.iter().filter(|mutant| mutant.valid.is_some()).count();
        let total = mutants.len();
        assert!(total >= 2_000 && valid >= 100 && valid < total / 2, "{valid} of {total}");
        let mut bench = Self { backend, bare, mutants: Arc::new(mutants), _server: server };
        bench.plant().await;
        bench
    }

    /// Stores all records, each with a valid counter and a valid index.
    async fn plant(&mut self) {
        for some in self.mutants.chunks(CHUNK) {
            let mut words = vec!["MSET".to_owned()];
            for mutant in some {
                let [lock, counter, index] = mutant.stored();
                let (text, target) = (mutant.text.clone(), lock.clone());
                words.extend([lock, text, counter, "5".to_owned(), index, target]);
            }
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            self.bare.call(&words).await.unwrap();
        }
    }

    /// Reads everything that is stored for each record.
    async fn stored(&mut self) -> Vec<Stored> {
        let mut stored = Vec::new();
        for some in self.mutants.chunks(CHUNK) {
            let names: Vec<_> = some.iter().flat_map(Mutant::stored).collect();
            let count = names.len().to_string();
            let words = ["EVAL", READ, &count].into_iter();
            let words: Vec<_> = words.chain(names.iter().map(String::as_str)).collect();
            let values = self.bare.call(&words).await.unwrap().unwrap();
            let values: Vec<Value> = serde_json::from_str(&values).unwrap();
            let text = |value: &Value| value.as_str().map(str::to_owned);
            stored.extend(values.chunks(3).map(|three| [0, 1, 2].map(|place| text(&three[place]))));
        }
        stored
    }

    /// Runs `work` on all records, and returns the results with the values stored before and after.
    async fn each<R, F>(
        &mut self,
        work: impl Fn(Arc<Vec<Mutant>>, usize, RedisBackend) -> F + Sync,
    ) -> Vec<(R, Stored, Stored)>
    where
        R: Send + 'static,
        F: Future<Output = R> + Send + 'static,
    {
        let before = self.stored().await;
        let asking = |mutants, number| work(mutants, number, self.backend.clone());
        let results = each(&self.mutants, CONCURRENCY, asking).await;
        let stored = before.into_iter().zip(self.stored().await);
        results
            .into_iter()
            .zip(stored)
            .map(|(result, (before, after))| (result, before, after))
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_record_is_not_replaced_by_a_grant_and_stays_unchanged() {
    let mut bench = Bench::start().await;
    let ask = async |mutants: Arc<Vec<Mutant>>, number, backend| {
        let mutant: &Mutant = &mutants[number];
        if !mutant.may_be_replaced {
            mutant.acquire(&backend).await;
            mutant.acquire_again(&backend).await;
        }
        mutant.request_as_non_holder(&backend).await;
        mutant.look_up(&backend).await
    };
    let asked = bench.each(ask).await;
    for (mutant, (_, before, after)) in bench.mutants.iter().zip(&asked) {
        assert_eq!(before, after, "{}", mutant.text);
    }
    let seen = asked.iter().filter(|(seen, ..)| *seen).count();
    let listed = bench.backend.list(&ListRequest::new("").limit(10_000)).await.unwrap();
    assert!(listed.next.is_none() && listed.locks.len() == seen, "{seen} of {listed:?}");

    let acquire = async |mutants: Arc<Vec<Mutant>>, number, backend| {
        let mutant: &Mutant = &mutants[number];
        if mutant.may_be_replaced {
            mutant.acquire(&backend).await;
        }
    };
    let acquired = bench.each(acquire).await;
    for (mutant, (_, before, after)) in bench.mutants.iter().zip(acquired) {
        assert!(before == after || mutant.may_be_replaced, "{}: {after:?}", mutant.text);
        assert!(before != after || !mutant.is_expired(), "{}", mutant.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_extends_and_ends_only_its_own_grant() {
    let mut bench = Bench::start().await;
    let extend = async |mutants: Arc<Vec<Mutant>>, number, backend| {
        let mutant: &Mutant = &mutants[number];
        mutant.extend(&backend).await
    };
    let extended = bench.each(extend).await;
    for (mutant, (extended, before, after)) in bench.mutants.iter().zip(extended) {
        assert_eq!(before != after, extended, "{}: {after:?}", mutant.text);
        if let Some(valid) = &mutant.valid {
            let after = ValidRecord::read(after[0].as_ref().unwrap()).unwrap();
            assert_eq!(after.lock_id, valid.lock_id, "{}", mutant.text);
        }
    }

    bench.plant().await;
    let release = async |mutants: Arc<Vec<Mutant>>, number, backend| {
        let mutant: &Mutant = &mutants[number];
        mutant.release(&backend).await
    };
    let released = bench.each(release).await;
    for (mutant, (released, before, after)) in bench.mutants.iter().zip(released) {
        let expected = if released { [None, before[1].clone(), None] } else { before };
        assert_eq!(after, expected, "{}", mutant.text);
    }

    bench.plant().await;
    let abandon = async |mutants: Arc<Vec<Mutant>>, number, backend| {
        let mutant: &Mutant = &mutants[number];
        mutant.abandon(&backend).await;
    };
    let abandoned = bench.each(abandon).await;
    for (mutant, (_, before, after)) in bench.mutants.iter().zip(abandoned) {
        let is_gone = after[0].is_none();
        assert!(if is_gone { mutant.may_be_own } else { !mutant.is_own() }, "{}", mutant.text);
        assert!(is_gone || after[0] == before[0], "{}", mutant.text);
        assert_eq!((&after[1], after[2].as_deref()), (&before[1], Some("")), "{}", mutant.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_release_clears_every_record_and_keeps_its_counter() {
    let mut bench = Bench::start().await;
    let force = async |mutants: Arc<Vec<Mutant>>, number, backend| {
        let mutant: &Mutant = &mutants[number];
        mutant.force_release(&backend).await
    };
    let ended = bench.each(force).await;
    for (mutant, (ended, before, after)) in bench.mutants.iter().zip(ended) {
        assert!(!ended || mutant.is_live(), "{}", mutant.text);
        assert_ne!(after[0], before[0], "{}", mutant.text);
    }
}
