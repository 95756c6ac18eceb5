//! Records that this backend did not write.

use syncguard_core::{
    ErrorKind, LockId, ReleaseOutcome,
    backend::{
        AcquireOutcome, AcquireRequest, ExtendOutcome, ListRequest, LockBackend, LockQuery, LockRef,
    },
};
use syncguard_sqlite::SqliteBackend;
use syncguard_testkit::mutants::mutants;

use crate::{Foreign, Scratch, key, request, ttl};

/// The tables without types and constraints, so that any value can be stored in any column.
pub(crate) const LOOSE_TABLES: &str = "
    CREATE TABLE syncguard_schema (id INTEGER PRIMARY KEY, version);
    INSERT INTO syncguard_schema VALUES (1, 1);
    CREATE TABLE syncguard_locks (
        key PRIMARY KEY NOT NULL, fence, lock_id, owner, acquired_at_ms, expires_at_ms
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX syncguard_locks_by_id
        ON syncguard_locks (lock_id) WHERE lock_id IS NOT NULL;
    CREATE TABLE syncguard_abandoned (lock_id PRIMARY KEY NOT NULL, until_ms) WITHOUT ROWID;
    CREATE INDEX syncguard_abandoned_by_until ON syncguard_abandoned (until_ms)";

/// Foreign values, as SQL literals. NaN is NULL in SQLite.
pub(crate) const VALUES: [&str; 28] = [
    "NULL",
    "0",
    "1",
    "-1",
    "7.0",
    "7.5",
    "-0.0",
    "9e999",
    "-9e999",
    "1e300",
    "9223372036854775807",
    "-9223372036854775808",
    "1000000000000000",
    "''",
    "'0'",
    "'7'",
    "'-1'",
    "'NaN'",
    "'0x7f'",
    "'1e3'",
    "'null'",
    "'{\"fence\":1}'",
    "'AAAAAAAAAAAAAAAAAAAAA'",
    "'a' || char(0) || 'b'",
    "char(8238)",
    "x''",
    "x'37'",
    "zeroblob(3000)",
];

/// The columns after the key before they are mutated: a live lock, an expired one, and a released
/// key. `ID` stands for the record's own id.
const SHAPES: [[&str; 5]; 3] = [
    ["7", "ID", "'web-3'", "1", "4102444800000"],
    ["7", "ID", "NULL", "1", "2"],
    ["7", "NULL", "NULL", "NULL", "NULL"],
];

fn integer(literal: &str) -> Option<i64> {
    literal.parse().ok()
}

/// The correct reading of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// A free key with this counter.
    Free(i64),
    /// A lock that is live or expired.
    Lock { live: bool, counter: i64 },
    /// A record that cannot be read.
    Refuse,
}

impl Expected {
    fn of(columns: [&str; 5]) -> Self {
        let [fence, id, _, acquired, expires] = columns;
        let counter = integer(fence).filter(|fence| (0..1_000_000_000_000_000).contains(fence));
        if columns[1..].iter().all(|column| *column == "NULL") {
            return counter.map_or(Self::Refuse, Self::Free);
        }
        match (counter, id, integer(acquired), integer(expires)) {
            (Some(counter), "ID", Some(_), Some(expires)) => {
                Self::Lock { live: expires > 4_000_000_000_000, counter }
            }
            _ => Self::Refuse,
        }
    }
}

struct Mutant<'a> {
    name: String,
    id: LockId,
    columns: [&'a str; 5],
}

impl Mutant<'_> {
    fn lock(&self) -> LockRef {
        LockRef::new(self.id, key(&self.name))
    }

    /// Acquires under another id, and under its own if the lock is live.
    async fn acquire(&self, backend: &SqliteBackend, expected: Expected) {
        let context = format!("{:?} {expected:?}", self.columns);
        let outcome = backend.acquire(&request(&self.name)).await;
        match (expected, outcome) {
            (Expected::Lock { live: true, .. }, Ok(AcquireOutcome::Contended { .. })) => {
                let own = AcquireRequest::new(key(&self.name), self.id, ttl(1_000));
                let outcome = backend.acquire(&own).await.unwrap();
                assert!(matches!(outcome, AcquireOutcome::Granted(_)), "{context}");
            }
            (
                Expected::Free(counter) | Expected::Lock { live: false, counter },
                Ok(AcquireOutcome::Granted(grant)),
            ) => {
                assert_eq!(i64::try_from(grant.fence.number()), Ok(counter + 1), "{context}");
            }
            (Expected::Refuse, Err(error)) => {
                assert_eq!(error.kind(), ErrorKind::Internal, "{context}: {error}");
                assert!(!error.may_have_applied(), "{context}: {error}");
            }
            (_, outcome) => panic!("{context}: {outcome:?}"),
        }
    }

    /// Runs all other operations on a record that cannot be read. Each either returns an error, or,
    /// if the record does not have the id, reports that the id holds nothing.
    async fn check_unreadable(&self, backend: &SqliteBackend) {
        let context = format!("{:?}", self.columns);
        let has_id = self.columns[1] == "ID";
        let is_empty = self.columns[1..].iter().all(|column| *column == "NULL");
        let (lock, key) = (self.lock(), key(&self.name));
        let extended = backend.extend(&lock, ttl(60_000)).await;
        assert!(matches!(&extended, Err(error) if error.kind() == ErrorKind::Internal) == has_id);
        assert!(!matches!(extended, Ok(ExtendOutcome::Extended { .. })), "{context}");
        let released = backend.release(&lock).await;
        assert!(matches!(&released, Err(error) if error.kind() == ErrorKind::Internal) == has_id);
        assert!(!matches!(released, Ok(ReleaseOutcome::Released)), "{context}");
        assert_eq!(backend.abandon(self.id, &key).await.is_err(), has_id, "{context}");
        let by_id = backend.lookup(&LockQuery::ById(self.id)).await;
        assert_eq!(by_id.is_err(), has_id, "{context}: {by_id:?}");
        let by_key = backend.lookup(&LockQuery::ByKey(key.clone())).await;
        assert_eq!(by_key.is_err(), !is_empty, "{context}: {by_key:?}");
        assert_eq!(backend.is_locked(&key).await.is_err(), !is_empty, "{context}");
        let listed = backend.list(&ListRequest::new(key.as_str())).await;
        assert!(listed.is_err() || listed.is_ok_and(|page| page.locks.is_empty()), "{context}");
    }

    /// Releases it by force. This clears everything except the counter.
    async fn force_release(&self, backend: &SqliteBackend, foreign: &mut Foreign) {
        let before = foreign.record(&self.name).await;
        let forced = backend.force_release(&key(&self.name)).await;
        match &forced {
            Ok(record) => assert!(record.is_none() && before[1..] == ["NULL"; 4], "{forced:?}"),
            Err(error) => {
                assert!(error.has_applied(), "{error}");
                assert!(error.to_string().contains("it was cleared"), "{error}");
            }
        }
        if before[0] == "0" {
            let uncounted = "SELECT key FROM syncguard_locks WHERE quote(fence) = '0'";
            assert!(foreign.texts(uncounted).await.is_empty(), "it has no counter");
        } else {
            let [fence, rest @ ..] = foreign.record(&self.name).await;
            assert_eq!(fence, before[0], "{:?}", self.columns);
            assert_eq!(rest, ["NULL"; 4], "{:?}: {forced:?}", self.columns);
        }
        assert!(backend.force_release(&key(&self.name)).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn unreadable_records_are_neither_replaced_by_a_grant_nor_lost() {
    let scratch = Scratch::in_memory();
    let mut foreign = scratch.foreign().await;
    foreign.run(LOOSE_TABLES).await;
    let backend = scratch.open().await;
    let (mut readable, mut unreadable) = (0, 0);
    for (number, columns) in mutants(&SHAPES, [&VALUES; 5], 2).into_iter().enumerate() {
        let mutant =
            Mutant { name: format!("key-{number}-"), id: LockId::mint().unwrap(), columns };
        let id = format!("'{}'", mutant.id.as_str());
        let planted = columns.map(|column| if column == "ID" { id.as_str() } else { column });
        foreign.plant(&mutant.name, planted).await;
        let expected = Expected::of(columns);
        let before = foreign.record(&mutant.name).await;
        mutant.acquire(&backend, expected).await;
        if expected == Expected::Refuse {
            mutant.check_unreadable(&backend).await;
            assert_eq!(foreign.record(&mutant.name).await, before, "{columns:?}");
            mutant.force_release(&backend, &mut foreign).await;
            unreadable += 1;
        } else {
            backend.force_release(&key(&mutant.name)).await.unwrap();
            readable += 1;
        }
    }
    assert!(unreadable + readable >= 2_000, "{unreadable} and {readable}");
    assert!(unreadable >= 1_500 && readable >= 50, "{unreadable} and {readable}");
}

#[tokio::test]
async fn pruning_leaves_expired_records_that_cannot_be_read() {
    let scratch = Scratch::in_memory();
    let mut foreign = scratch.foreign().await;
    foreign.run(LOOSE_TABLES).await;
    let backend = scratch.open().await;
    let readable = ["7", "'AAAAAAAAAAAAAAAAAAAAAA'", "NULL", "1", "2"];
    foreign.insert("readable", readable).await;
    let unreadable_ids = [
        "''",
        "'1e3'",
        "'AAAAAAAAAAAAAAAAAAAAA'",
        "'AAAAAAAAAAAAAAAAAAAAA='",
        "'AAAAAAAAAAAAAAAAAAAAAAA'",
        "'AAAAAAAAAAAAAAAAAAAAA' || char(0)",
        "'AAAAAAAAAAAAAAAAAAAAAB' || char(0)",
        "'AAAAAAAAAAAAAAAAAAAAA' || char(233)",
        "x'41414141414141414141414141414141414141414141'",
    ];
    let records = unreadable_ids.map(|id| ["7", id, "NULL", "1", "2"]);
    let mut before = Vec::new();
    for (number, columns) in records.into_iter().enumerate() {
        let name = format!("unreadable-{number}");
        foreign.insert(&name, columns).await;
        before.push((foreign.record(&name).await, name));
    }
    let id = LockId::mint().unwrap();
    // Every second pruning begins at the lowest id.
    for _ in 0..128 {
        backend.abandon(id, &key("other")).await.unwrap();
    }
    assert_eq!(foreign.record("readable").await, ["7", "NULL", "NULL", "NULL", "NULL"]);
    for (record, name) in before {
        assert_eq!(foreign.record(&name).await, record);
    }
}
