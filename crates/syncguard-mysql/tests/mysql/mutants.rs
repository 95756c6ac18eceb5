//! Records that no client of ours has written.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, Row};
use syncguard_core::{ErrorKind, backend::LockBackend};
use syncguard_mysql::MysqlBackend;
use syncguard_testkit::{
    mutants::{each, mutants},
    operations::key,
    server::MariadbServer,
    sql::mutants::{CONCURRENCY, Mutant, Record, change_nothing},
};

use crate::{Foreign, Name};

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
}

impl Record for Columns {
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

    fn next(self) -> Option<u64> {
        let counter: u64 = self.0[0].parse().unwrap();
        (!self.is_live() && counter < LIMIT).then(|| counter + 1)
    }
}

/// Releases by force. The record is cleared, whether or not it can be read.
async fn force_release(mutant: &Mutant<Columns>, backend: &MysqlBackend) {
    let (columns, context, key) = (mutant.columns, mutant.context(), key(&mutant.name));
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

/// Writes all records.
async fn insert_all(foreign: &mut Foreign, name: &Name, mutants: &[Mutant<Columns>]) {
    for chunk in mutants.chunks(500) {
        let row = |mutant: &Mutant<Columns>| {
            let values = mutant.columns.0.map(|value| mutant.fill(value));
            format!("('{}', {})", mutant.name, values.join(", "))
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
    let mutants = Mutant::all(Columns::all());
    insert_all(&mut foreign, &name, &mutants).await;
    let before = records(&mut foreign, &name).await;
    let mutants = Arc::new(mutants);

    change_nothing(&mutants, &backend, Mutant::is_held).await;
    assert_eq!(records(&mut foreign, &name).await, before, "all stand as they were");

    let ending = backend.clone();
    each(&mutants, CONCURRENCY, move |mutants, number| {
        let backend = ending.clone();
        async move {
            let mutant = &mutants[number];
            match number % 3 {
                0 => {
                    mutant.extend(&backend).await;
                    mutant.release_and_abandon(&backend).await;
                }
                1 => force_release(mutant, &backend).await,
                _ if mutant.columns.next().is_some() => mutant.acquire(&backend).await,
                _ => {}
            }
        }
    })
    .await;
    let left = records(&mut foreign, &name).await;
    for (mutant, before) in mutants.iter().zip(&before) {
        let fence = |record: &(String, String)| record.1.split(',').next().map(str::to_owned);
        let Some(after) = left.iter().find(|(name, _)| *name == before.0) else {
            // Without a counter, nothing is kept of a grant that has ended.
            assert_eq!(fence(before).as_deref(), Some("0"), "{}", mutant.context());
            continue;
        };
        let is_same = before == after;
        let granted = mutant.columns.next().is_some();
        assert!(granted || fence(before) == fence(after), "{}", mutant.context());
        let number: usize = mutant.name["key-".len()..][..5].parse().unwrap();
        assert!(number % 3 != 2 || granted || is_same, "{}", mutant.context());
    }
}
