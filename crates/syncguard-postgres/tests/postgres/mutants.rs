//! Records that no client of ours has written, in tables that the TypeScript client could have
//! created.

use std::sync::Arc;

use sqlx::Row;
use syncguard_core::{ErrorKind, backend::LockBackend};
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::{
    mutants::{each, mutants},
    operations::key,
    server::PostgresServer,
    sql::mutants::{CONCURRENCY, Mutant, Record, change_nothing},
};

use crate::{Foreign, Names};

const LIMIT: u64 = 900_000_000_000_000;

/// Foreign texts, in SQL. `NAME` stands for the key of the record, `ID` for an id of its own.
const TEXTS: [&str; 17] = [
    "''",
    "' '",
    "'0'",
    "'7'",
    "'-00000000000001'",
    "'+00000000000001'",
    "'00000000000000a'",
    "'0000000000000007'",
    "'00000000000007'",
    "'NaN'",
    "'0x0000000000007'",
    "E'\\uff10\\uff10\\uff10\\uff10\\uff10\\uff10\\uff10\\uff10\\uff10\\uff10\\uff10\\uff10\\uff10\\uff10\\uff17'",
    "E'000000000000007\\n'",
    "E'a\\u202eb\\\\0'",
    "'{\"fence\":1}'",
    "repeat('x', 600)",
    "'000000000000008'",
];

const FENCES: [&str; 4] =
    ["'000000000000000'", "'000000000000001'", "'000000000000009'", "'999999999999999'"];

/// Ids are unique in the table. The name of the record makes them unique.
const IDS: [&str; 6] = [
    "'NAME'",
    "'NAME!' || repeat('x', 2000)",
    "E'\\u00e9NAME'",
    "substr('NAME=====================', 1, 22)",
    "E'NAME\\n'",
    "'0xNAME'",
];

const NUMBERS: [&str; 8] = [
    "0",
    "1",
    "-1",
    "9223372036854775807",
    "-9223372036854775808",
    "1000000000000000",
    "4102444800000",
    "899999999999999",
];

const COUNTERS: [&str; 9] = [
    "NULL",
    "0",
    "6",
    "-1",
    "899999999999999",
    "900000000000000",
    "1000000000000000",
    "9223372036854775807",
    "-9223372036854775808",
];

/// The values of the columns before they are mutated: a live lock, and an expired one.
const SHAPES: [[&str; 8]; 2] = [
    ["'NAME'", "ID", "4102444800000", "1", "'000000000000007'", "'web-3'", "ID", "7"],
    ["'NAME'", "ID", "2", "1", "'000000000000007'", "NULL", "NULL", "7"],
];

/// A record: user_key, lock_id, expires_at_ms, acquired_at_ms, fence, owner, owner_lock_id, and the
/// counter.
#[derive(Clone, Copy, Debug)]
struct Columns([&'static str; 8]);

impl Columns {
    fn all() -> Vec<Self> {
        let fences: Vec<_> = TEXTS.into_iter().chain(FENCES).collect();
        let values: [&[&str]; 8] =
            [&TEXTS, &IDS, &NUMBERS, &NUMBERS, &fences, &TEXTS, &TEXTS, &COUNTERS];
        mutants(&SHAPES, values, 4).into_iter().map(Self).collect()
    }
}

impl Record for Columns {
    fn is_live(self) -> bool {
        self.0[2].parse::<i64>().unwrap() > 4_000_000_000_000
    }

    fn is_own(self) -> bool {
        self.0[1] == "ID"
    }

    fn fence(self) -> Option<u64> {
        let digits = self.0[4].strip_prefix('\'')?.strip_suffix('\'')?;
        let is_fence = digits.len() == 15 && digits.bytes().all(|digit| digit.is_ascii_digit());
        is_fence.then(|| digits.parse().unwrap())
    }

    fn is_readable(self) -> bool {
        self.0[0] == "'NAME'" && self.is_own() && self.fence().is_some()
    }

    fn next(self) -> Option<u64> {
        let counter = match self.0[7] {
            "NULL" => 0,
            counter => u64::try_from(counter.parse::<i64>().unwrap()).ok()?,
        };
        let counts = counter < LIMIT && self.fence()? <= counter;
        (!self.is_live() && counts).then(|| counter + 1)
    }
}

/// Releases by force. The record is cleared, whether or not it can be read.
async fn force_release(mutant: &Mutant<Columns>, backend: &PostgresBackend) {
    let (columns, context, key) = (mutant.columns, mutant.context(), key(&mutant.name));
    match backend.force_release(&key).await {
        Ok(Some(_)) => assert!(columns.is_live() && columns.is_readable(), "{context}"),
        Ok(None) => assert!(!columns.is_live() && columns.fence().is_some(), "{context}"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Internal, "{context}: {error}");
            assert!(error.has_applied(), "{context}: {error}");
            assert!(error.to_string().contains("it was cleared"), "{context}: {error}");
            assert!(!columns.is_readable(), "{context}");
        }
    }
    assert!(!backend.is_locked(&key).await.unwrap(), "{context}");
    assert!(backend.force_release(&key).await.unwrap().is_none(), "{context}");
}

/// Writes all records.
async fn insert_all(foreign: &mut Foreign, names: &Names, mutants: &[Mutant<Columns>]) {
    for chunk in mutants.chunks(500) {
        let row = |mutant: &Mutant<Columns>| {
            let values = mutant.columns.0.map(|value| mutant.fill(value));
            format!("('{}', {})", mutant.name, values[..7].join(", "))
        };
        let rows: Vec<_> = chunk.iter().map(row).collect();
        let columns =
            "user_key, lock_id, expires_at_ms, acquired_at_ms, fence, owner, owner_lock_id";
        let (locks, rows) = (&names.locks, rows.join(", "));
        foreign.run(&format!("INSERT INTO {locks} (key, {columns}) VALUES {rows}")).await;
        let counted = chunk.iter().filter(|mutant| mutant.columns.0[7] != "NULL");
        let row = |mutant: &Mutant<Columns>| {
            format!("('fence:{}', {})", mutant.name, mutant.fill(mutant.columns.0[7]))
        };
        let rows: Vec<_> = counted.map(row).collect();
        let counters = &names.counters;
        let rows = rows.join(", ");
        foreign.run(&format!("INSERT INTO {counters} (fence_key, fence) VALUES {rows}")).await;
    }
}

/// Reads all records, in the order of their keys.
async fn records(foreign: &mut Foreign, names: &Names) -> Vec<(String, String)> {
    let sql = format!("SELECT key, row_to_json(l)::text FROM {} AS l ORDER BY key", names.locks);
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut foreign.0).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_cannot_be_read_are_neither_overwritten_nor_lost() {
    let server = PostgresServer::builder().setting("fsync", "off").start().await.unwrap();
    let names = Names::fresh();
    let backend = names.connect(&server.url()).await;
    let mut foreign = Foreign::open(&server.url()).await;
    let mutants = Mutant::all(Columns::all());
    insert_all(&mut foreign, &names, &mutants).await;
    let before = records(&mut foreign, &names).await;
    let mutants = Arc::new(mutants);

    change_nothing(&mutants, &backend, |mutant| mutant.columns.is_own()).await;
    assert_eq!(records(&mut foreign, &names).await, before, "all stand as they were");

    let ending = backend.clone();
    each(&mutants, CONCURRENCY, move |mutants, number| {
        let backend = ending.clone();
        async move {
            let mutant = &mutants[number];
            mutant.extend(&backend).await;
            match number % 3 {
                0 => mutant.release_and_abandon(&backend).await,
                1 => force_release(mutant, &backend).await,
                _ if mutant.columns.next().is_some() => mutant.acquire(&backend).await,
                _ => {}
            }
        }
    })
    .await;
    let left = records(&mut foreign, &names).await;
    for (mutant, (name, record)) in mutants.iter().zip(&before).skip(2).step_by(3) {
        let after = left.iter().find(|(left, _)| left == name);
        let is_same = after.is_some_and(|(_, after)| after == record);
        let may_change = mutant.columns.next().is_some() || mutant.is_held();
        assert!(after.is_some() && (is_same || may_change), "{}", mutant.context());
    }
}
