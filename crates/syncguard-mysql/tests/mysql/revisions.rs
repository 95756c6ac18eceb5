//! Tables of earlier and later clients, and what becomes of rows that no one needs any more.

use syncguard_core::{ErrorKind, LockBackend};
use syncguard_mysql::MysqlBackend;
use syncguard_tests::asking::{LONG, ask, error_of, eventually, granted, is_locked, released};

use crate::{Foreign, Name, shared};

const RECORDED: &str = "SELECT owner FROM {locks} WHERE lock_key = X'FF736368656D61'";
const RECORD: &str = "UPDATE {locks} SET owner = '$' WHERE lock_key = X'FF736368656D61'";
const FORGET: &str = "DELETE FROM {locks} WHERE lock_key = X'FF736368656D61'";

async fn pass(backend: &MysqlBackend, text: &str) -> u64 {
    let request = ask(text, LONG);
    let grant = granted(backend, &request).await;
    assert!(released(backend, &request).await);
    grant.fence.number()
}

#[tokio::test]
async fn a_table_that_says_no_revision_is_the_first_until_the_schema_step() {
    let (server, name) = (shared().await, Name::fresh());
    let mut foreign = Foreign::open(server.url()).await;
    let backend = name.connect(server.url()).await;
    assert_eq!(foreign.text(&name.fill(RECORDED)).await, "1,2");
    foreign.run(&name.fill(FORGET)).await;
    assert_eq!(pass(&name.connect(server.url()).await, "job").await, 1);
    let count = name.fill("SELECT COUNT(*) FROM {locks} WHERE lock_key > X'FF'");
    assert_eq!(foreign.number(&count).await, 0, "connecting changes nothing");
    for _ in 0..2 {
        backend.setup_schema().await.unwrap();
        assert_eq!(foreign.text(&name.fill(RECORDED)).await, "1,2");
    }
    assert_eq!(pass(&backend, "job").await, 2, "who was connected goes on");
    assert_eq!(pass(&name.connect(server.url()).await, "job").await, 3);
}

#[tokio::test]
async fn a_table_that_demands_a_later_client_is_refused_and_left_alone() {
    let (server, name) = (shared().await, Name::fresh());
    let backend = name.connect(server.url()).await;
    let mut foreign = Foreign::open(server.url()).await;
    foreign.run(&name.fill(RECORD).replace('$', "3,4")).await;
    for refused in [
        name.config(server.url()).connect().await.map(drop),
        name.config(server.url()).setup_schema().await,
        backend.setup_schema().await,
        backend.check().await.map(drop),
    ] {
        let error = error_of(refused, ErrorKind::Unsupported);
        assert!(!error.may_have_applied());
        let text = error.to_string();
        assert!(text.contains("version 3") && text.contains("version 2"), "{text}");
    }
    assert_eq!(foreign.text(&name.fill(RECORDED)).await, "3,4");
}

#[tokio::test]
async fn a_later_table_that_this_client_may_use_is_used_and_not_set_back() {
    let (server, name) = (shared().await, Name::fresh());
    name.connect(server.url()).await;
    let mut foreign = Foreign::open(server.url()).await;
    foreign.run(&name.fill(RECORD).replace('$', "2,9")).await;
    foreign.run(&name.fill("ALTER TABLE {locks} ADD COLUMN future TEXT")).await;
    let backend = name.connect(server.url()).await;
    backend.setup_schema().await.unwrap();
    foreign.run(&name.config(server.url()).schema_sql().unwrap()).await;
    assert_eq!(pass(&backend, "job").await, 1);
    assert_eq!(foreign.text(&name.fill(RECORDED)).await, "2,9");
}

#[tokio::test]
async fn a_version_that_makes_no_sense_is_an_error_and_nothing_is_changed() {
    let (server, name) = (shared().await, Name::fresh());
    let backend = name.connect(server.url()).await;
    let mut foreign = Foreign::open(server.url()).await;
    for recorded in ["0,1", "-1,1", "2,1", "", "1", "1,", "one,two"] {
        foreign.run(&name.fill(RECORD).replace('$', recorded)).await;
        let connected = name.config(server.url()).connect().await;
        assert!(!error_of(connected, ErrorKind::Internal).may_have_applied(), "{recorded}");
        error_of(backend.setup_schema().await, ErrorKind::Internal);
        assert_eq!(foreign.text(&name.fill(RECORDED)).await, recorded);
    }
}

#[tokio::test]
async fn rows_of_the_past_go_a_few_at_a_time_with_the_releases_of_others_and_fences_stay() {
    const NUMBERS: &str = "WITH RECURSIVE numbers AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM numbers WHERE n < 250)";
    const COLUMNS: &str = "(lock_key, fence, lock_id, acquired_at_ms, expires_at_ms)";
    let (server, name) = (shared().await, Name::fresh());
    let backend = name.connect(server.url()).await;
    let mut foreign = Foreign::open(server.url()).await;
    granted(&backend, &ask("held", LONG)).await;
    for row in [
        "CONCAT('past-', n), n, LPAD(n, 22, '0'), 1, 2",
        "CONCAT(X'FF', 'm', LPAD(n, 21, '0')), 0, CONCAT('m', LPAD(n, 21, '0')), 1, 0",
    ] {
        let plant = format!("INSERT INTO {{locks}} {COLUMNS} {NUMBERS} SELECT {row} FROM numbers");
        foreign.run(&name.fill(&plant)).await;
    }
    let mut other = Foreign::open(server.url()).await;
    other.run("BEGIN").await;
    let locked = "SELECT * FROM {locks} WHERE lock_key = 'past-250' FOR UPDATE";
    other.run(&name.fill(locked)).await;
    let count = name.fill("SELECT COUNT(*) FROM {locks} WHERE lock_id IS NOT NULL");
    let mut passes = 0_i64;
    // The one that is held, and the one that is locked.
    eventually("all else has gone", async || {
        for _ in 0..64 {
            pass(&backend, "job").await;
        }
        passes += 1;
        let left = foreign.number(&count).await;
        assert!(501 - left <= 2 * 64 * passes, "too many at once: {left} are left");
        left == 2
    })
    .await;
    other.run("COMMIT").await;
    let fences = "SELECT COUNT(*) FROM {locks} WHERE lock_key LIKE 'past-%' AND fence > 0";
    assert_eq!(foreign.number(&name.fill(fences)).await, 250);
    assert!(is_locked(&backend, "held").await);
    assert_eq!(pass(&backend, "past-7").await, 8);
    assert_eq!(foreign.text(&name.fill(RECORDED)).await, "1,2");
}
