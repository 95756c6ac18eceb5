//! Records that no client of ours has written.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, Row};
use syncguard_core::{
    AcquireOutcome, AcquireRequest, ErrorKind, ExtendOutcome, ListRequest, LockBackend, LockId,
    LockQuery, LockRef, ReleaseOutcome,
};
use syncguard_mysql::MysqlBackend;
use syncguard_testkit::{
    mutants::{each, mutants},
    operations::{LONG, ask, error_of, key, ttl},
    server::MariadbServer,
};

use crate::{Foreign, Name};

/// The number of records that are tested concurrently.
const CONCURRENCY: usize = 8;

const LIMIT: u64 = 900_000_000_000_000;

/// The column is unsigned.
const FENCES: [&str; 9] = [
    "0",
    "1",
    "899999999999999",
    "900000000000000",
    "999999999999999",
    "1000000000000000",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
];

/// Ids are unique in the table. The name of the record makes them unique. The column takes 22
/// bytes.
const IDS: [&str; 8] = [
    "NULL",
    "'NAME'",
    "CONCAT('NAME', X'FF')",
    "CONCAT('NAME', X'00')",
    "CONCAT('NAME', _utf8mb4 X'EFBC90')",
    "RPAD('NAME', 22, '=')",
    "CONCAT('NAME', '\\n')",
    "CONCAT('0x', 'NAME')",
];

const OWNERS: [&str; 7] = [
    "NULL",
    "''",
    "' '",
    "'a\\0b'",
    "CONVERT(X'E280AE' USING utf8mb4)",
    "REPEAT('x', 255)",
    "'{\"owner\":1}'",
];

const NUMBERS: [&str; 9] = [
    "0",
    "1",
    "-1",
    "9223372036854775807",
    "-9223372036854775808",
    "1000000000000000",
    "4102444800000",
    "-62135596800000",
    "3",
];

/// The values of the columns after the key before they are mutated: a live lock, an expired one,
/// and a released key. `ID` stands for the id of the record.
const SHAPES: [[&str; 5]; 3] = [
    ["7", "ID", "'web-3'", "1", "4102444800000"],
    ["7", "ID", "NULL", "1", "2"],
    ["7", "NULL", "NULL", "1", "0"],
];

/// A record: fence, lock_id, owner, acquired_at_ms, expires_at_ms.
#[derive(Clone, Copy, Debug)]
struct Columns([&'static str; 5]);

impl Columns {
    fn all() -> Vec<Self> {
        let values: [&[&str]; 5] = [&FENCES, &IDS, &OWNERS, &NUMBERS, &NUMBERS];
        mutants(&SHAPES, values, 9).into_iter().map(Self).collect()
    }

    fn is_live(self) -> bool {
        self.0[4].parse::<i64>().unwrap() > 4_000_000_000_000
    }

    fn is_own(self) -> bool {
        self.0[1] == "ID"
    }

    fn fence(self) -> Option<u64> {
        self.0[0].parse().ok().filter(|fence| *fence <= 999_999_999_999_999)
    }

    fn is_readable(self) -> bool {
        self.is_own() && self.fence().is_some()
    }

    /// Returns the fence of the next grant, if the key can be granted.
    fn next(self) -> Option<u64> {
        let counter: u64 = self.0[0].parse().unwrap();
        (!self.is_live() && counter < LIMIT).then(|| counter + 1)
    }
}

struct Mutant {
    name: String,
    id: LockId,
    columns: Columns,
}

impl Mutant {
    fn lock(&self) -> LockRef {
        LockRef::new(self.id, key(&self.name))
    }

    fn context(&self) -> String {
        format!("{} {:?}", self.name, self.columns)
    }

    /// Acquires under another id. Either the key is granted, or nothing is changed.
    async fn acquire(&self, backend: &MysqlBackend) {
        let (columns, context) = (self.columns, self.context());
        match (columns.next(), backend.acquire(&ask(&self.name, LONG)).await) {
            (Some(next), Ok(AcquireOutcome::Granted(grant))) => {
                assert_eq!(grant.fence.number(), next, "{context}");
            }
            (None, Ok(AcquireOutcome::Contended { .. })) => {
                assert!(columns.is_live() && columns.fence().is_some(), "{context}");
            }
            (None, Err(error)) => {
                assert!(!columns.is_live() || columns.fence().is_none(), "{context}: {error}");
                assert_eq!(error.kind(), ErrorKind::Internal, "{context}: {error}");
                assert!(!error.may_have_applied(), "{context}: {error}");
            }
            (next, outcome) => panic!("{context}: {outcome:?} instead of {next:?}"),
        }
    }

    /// Acquires again under the id of a live record.
    async fn acquire_again(&self, backend: &MysqlBackend) {
        let request = AcquireRequest::new(key(&self.name), self.id, ttl(LONG));
        match (self.columns.fence(), backend.acquire(&request).await) {
            (Some(fence), Ok(AcquireOutcome::Granted(grant))) => {
                assert_eq!(grant.fence.number(), fence, "{}", self.context());
            }
            (None, Err(error)) => {
                assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
                assert!(error.may_have_applied(), "the id may hold the key: {error}");
            }
            (_, outcome) => panic!("{}: {outcome:?}", self.context()),
        }
    }

    /// Runs the operations that only read.
    async fn read_only(&self, backend: &MysqlBackend) {
        let (columns, context, key) = (self.columns, self.context(), key(&self.name));
        let by_key = backend.lookup(&LockQuery::ByKey(key.clone())).await;
        let by_id = backend.lookup(&LockQuery::ById(self.id)).await;
        let is_locked = backend.is_locked(&key).await;
        let listed = backend.list(&ListRequest::new(&self.name)).await.unwrap().locks;
        assert_eq!(!listed.is_empty(), columns.is_live() && columns.is_readable(), "{context}");
        if !columns.is_live() {
            assert!(!is_locked.unwrap() && by_key.unwrap().is_none(), "{context}");
            assert!(by_id.unwrap().is_none(), "{context}");
        } else if columns.is_readable() {
            assert!(is_locked.unwrap() && by_key.unwrap().is_some(), "{context}");
            assert_eq!(by_id.unwrap().unwrap().key, key, "{context}");
        } else {
            error_of(is_locked, ErrorKind::Internal);
            error_of(by_key, ErrorKind::Internal);
            match by_id {
                Err(error) => assert!(columns.is_own() && error.kind() == ErrorKind::Internal),
                Ok(found) => assert!(found.is_none() && !columns.is_own(), "{context}"),
            }
        }
    }

    /// Extends, releases and abandons by the id. This depends only on the id and the expiry, which
    /// can be read in any case.
    async fn release_and_abandon(&self, backend: &MysqlBackend) {
        let is_held = self.columns.is_live() && self.columns.is_own();
        let extended = backend.extend(&self.lock(), ttl(LONG)).await.unwrap();
        let is_extended = matches!(extended, ExtendOutcome::Extended { .. });
        assert_eq!(is_extended, is_held, "{}", self.context());
        let released = backend.release(&self.lock()).await.unwrap();
        assert_eq!(released == ReleaseOutcome::Released, is_held, "{}", self.context());
        backend.abandon(self.id, &key(&self.name)).await.unwrap();
        assert!(backend.lookup(&LockQuery::ById(self.id)).await.unwrap().is_none());
    }

    /// Releases by force. The record is cleared, whether or not it can be read.
    async fn force_release(&self, backend: &MysqlBackend) {
        let (columns, context, key) = (self.columns, self.context(), key(&self.name));
        match backend.force_release(&key).await {
            Ok(Some(_)) => assert!(columns.is_live() && columns.is_readable(), "{context}"),
            Ok(None) => assert!(!columns.is_live(), "{context}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Internal, "{context}: {error}");
                assert!(error.has_applied(), "{context}: {error}");
                assert!(error.to_string().contains("it was cleared"), "{context}: {error}");
                assert!(columns.is_live() && !columns.is_readable(), "{context}");
            }
        }
        assert!(!backend.is_locked(&key).await.unwrap(), "{context}");
        assert!(backend.force_release(&key).await.unwrap().is_none(), "{context}");
    }
}

/// Writes all records.
async fn insert_all(foreign: &mut Foreign, name: &Name, mutants: &[Mutant]) {
    for chunk in mutants.chunks(500) {
        let row = |mutant: &Mutant| {
            let id = format!("'{}'", mutant.id.as_str());
            let fill = |value: &str| value.replace("NAME", &mutant.name).replace("ID", &id);
            format!("('{}', {})", mutant.name, mutant.columns.0.map(fill).join(", "))
        };
        let rows: Vec<_> = chunk.iter().map(row).collect();
        let columns = "(lock_key, fence, lock_id, owner, acquired_at_ms, expires_at_ms)";
        foreign.run(&format!("INSERT INTO {} {columns} VALUES {}", name.0, rows.join(", "))).await;
    }
}

/// Reads all records and their keys. Values that are not numbers are in hexadecimal digits.
async fn records(foreign: &mut Foreign, name: &Name) -> Vec<(String, String)> {
    let sql = name.fill(
        "SELECT HEX(lock_key) AS name, CONCAT_WS(',', fence, IFNULL(HEX(lock_id), '-'),
            IFNULL(HEX(owner), '-'), acquired_at_ms, expires_at_ms) AS record
        FROM {locks} WHERE lock_key < X'FF' ORDER BY lock_key",
    );
    let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut foreign.0).await.unwrap();
    rows.iter().map(|row| (row.get("name"), row.get("record"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_cannot_be_read_are_neither_overwritten_nor_lost() {
    let server = MariadbServer::builder().setting("innodb-flush-log-at-trx-commit", "0");
    let server = server.start().await.unwrap();
    let name = Name::fresh();
    let backend = name.connect(&server.url()).await;
    let mut foreign = Foreign::open(&server.url()).await;
    let mutant = |(number, columns)| Mutant {
        name: format!("key-{number:05}-"),
        id: LockId::mint().unwrap(),
        columns,
    };
    let mutants: Vec<_> = Columns::all().into_iter().enumerate().map(mutant).collect();
    let unreadable = mutants.iter().filter(|mutant| !mutant.columns.is_readable()).count();
    assert!(mutants.len() >= 2_000 && unreadable >= 1_000, "{} {unreadable}", mutants.len());
    insert_all(&mut foreign, &name, &mutants).await;
    let before = records(&mut foreign, &name).await;
    let mutants = Arc::new(mutants);

    let asked = backend.clone();
    each(&mutants, CONCURRENCY, move |mutants, number| {
        let backend = asked.clone();
        async move {
            let mutant = &mutants[number];
            if mutant.columns.next().is_none() {
                mutant.acquire(&backend).await;
            }
            if mutant.columns.is_own() && mutant.columns.is_live() {
                mutant.acquire_again(&backend).await;
            }
            mutant.read_only(&backend).await;
        }
    })
    .await;
    assert_eq!(records(&mut foreign, &name).await, before, "all stand as they were");

    let ending = backend.clone();
    each(&mutants, CONCURRENCY, move |mutants, number| {
        let backend = ending.clone();
        async move {
            let mutant = &mutants[number];
            match number % 3 {
                0 => mutant.release_and_abandon(&backend).await,
                1 => mutant.force_release(&backend).await,
                _ if mutant.columns.next().is_some() => mutant.acquire(&backend).await,
                _ => {}
            }
        }
    })
    .await;
    let left = records(&mut foreign, &name).await;
    assert_eq!(left.len(), before.len(), "each key keeps its fence");
    for ((mutant, before), after) in mutants.iter().zip(&before).zip(&left) {
        let is_same = before == after;
        let fence = |record: &(String, String)| record.1.split(',').next().map(str::to_owned);
        let granted = mutant.columns.next().is_some();
        assert!(granted || fence(before) == fence(after), "{}", mutant.context());
        let number: usize = mutant.name["key-".len()..][..5].parse().unwrap();
        assert!(number % 3 != 2 || granted || is_same, "{}", mutant.context());
    }
}
