//! Shared mode: what is stored, what an earlier version makes of it, and records that cannot be read.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Row, mysql::MySqlRow};
use syncguard_core::{
    ErrorKind, Owner,
    backend::{AcquireOutcome, AcquireRequest, LockBackend, Mode},
};
use syncguard_mysql::MysqlBackend;
use syncguard_testkit::{
    operations::{
        LONG, ask, error_of, eventually, extended, granted, is_contended, is_locked, key, released,
    },
    server::{Mariadb, Shared},
    sql::{
        Tables,
        schema::{acquire_and_release, recorded},
    },
};

use crate::{Foreign, NOW_MS, Name, shared};

struct Site {
    server: Shared<Mariadb>,
    name: Name,
    backend: MysqlBackend,
    foreign: Foreign,
}

impl Site {
    async fn set_up() -> Self {
        let (server, name) = (shared().await, Name::fresh());
        let backend = name.connect(server.url()).await;
        let foreign = Foreign::open(server.url()).await;
        Self { server, name, backend, foreign }
    }

    async fn rows(&mut self, sql: &str) -> Vec<MySqlRow> {
        let sql = AssertSqlSafe(self.name.fill(sql));
        sqlx::raw_sql(sql).fetch_all(&mut self.foreign.0).await.unwrap()
    }

    async fn number(&mut self, sql: &str) -> i64 {
        self.foreign.number(&self.name.fill(sql)).await
    }

    async fn run(&mut self, sql: &str) {
        self.foreign.run(&self.name.fill(sql)).await;
    }

    /// Connects as another process, which does not know the grants of this one.
    async fn other(&self) -> MysqlBackend {
        self.name.connect(self.server.url()).await
    }
}

fn reader(text: &str) -> AcquireRequest {
    ask(text, LONG).with_mode(Mode::SHARED)
}

const MEMBERS: &str = "SELECT COUNT(*) FROM {locks} WHERE lock_key >= X'FE' AND lock_key < X'FF'";

#[tokio::test]
async fn a_shared_key_is_stored_as_a_head_and_a_row_for_each_member() {
    let mut site = Site::set_up().await;
    let text = "a\"b\\c'd;é🔒$1 ";
    let first = reader(text).with_owner(Owner::new("web-3 \"blåe\" $2 {now}").ok());
    let second = reader(text);
    let grants = [granted(&site.backend, &first).await, granted(&site.backend, &second).await];
    let rows = site.rows("SELECT * FROM {locks} WHERE lock_key < X'FE'").await;
    let [head] = rows.as_slice() else { panic!("{} rows", rows.len()) };
    assert_eq!(head.get::<&[u8], _>("lock_key"), text.as_bytes());
    assert_eq!(head.get::<&[u8], _>("lock_id").len(), 21, "shorter than the id of a holder");
    assert_eq!((head.get::<u64, _>("fence"), head.get::<Option<&str>, _>("owner")), (2, None));
    assert_eq!(head.get::<i64, _>("expires_at_ms"), grants[1].expires_at.unix_millis());
    assert_eq!(head.get::<Option<u32>, _>("permits"), None);
    let holders: serde_json::Value = serde_json::from_str(head.get("holders")).unwrap();
    let expires = grants.map(|grant| grant.expires_at.unix_millis());
    let expected = serde_json::json!({
        format!("id:{}", first.lock_id.as_str()): {
            "fence": 1, "owner": "web-3 \"blåe\" $2 {now}",
            "acquired_at_ms": expires[0] - 60_000, "expires_at_ms": expires[0],
        },
        format!("id:{}", second.lock_id.as_str()): {
            "fence": 2, "owner": null,
            "acquired_at_ms": expires[1] - 60_000, "expires_at_ms": expires[1],
        },
    });
    assert_eq!(holders, expected);
    let members = site.rows("SELECT * FROM {locks} WHERE lock_key >= X'FE' ORDER BY fence").await;
    assert_eq!(members.len(), 2);
    for member in &members {
        let id = member.get::<&[u8], _>("lock_id");
        assert_eq!(member.get::<&[u8], _>("lock_key"), [b"\xfe", id].concat());
        assert_eq!(member.get::<&[u8], _>("member_of"), text.as_bytes());
        assert_eq!(member.get::<i64, _>("expires_at_ms"), 0, "it is not a lock");
    }
    for request in [&first, &second] {
        assert!(released(&site.backend, request).await);
    }
    let rows = site.rows("SELECT * FROM {locks}").await;
    let [row] = rows.as_slice() else { panic!("{} rows", rows.len()) };
    assert_eq!((row.get::<u64, _>("fence"), row.get::<i64, _>("expires_at_ms")), (2, 0));
    for column in ["lock_id", "holders"] {
        assert_eq!(row.get::<Option<&[u8]>, _>(column), None, "{column}");
    }
}

/// The grant, and the forced release, of a version that does not know shared mode.
const EARLIER_ACQUIRE: &str = "
    UPDATE {locks} SET fence = fence + 1, lock_id = 'earlier000000000000000', owner = NULL,
        acquired_at_ms = {now}, expires_at_ms = acquired_at_ms + 60000
    WHERE lock_key = 'job' AND expires_at_ms <= {now} - 1000
        AND NOT lock_id <=> 'earlier000000000000000' AND fence < 900000000000000";
const EARLIER_RELEASE: &str = "
    UPDATE {locks} SET lock_id = NULL, owner = NULL, expires_at_ms = 0
    WHERE lock_id = (SELECT lock_id FROM (SELECT lock_id FROM {locks} WHERE lock_key = 'job') AS l)
        AND expires_at_ms > {now} - 1000";

#[tokio::test]
async fn an_earlier_version_is_refused_a_shared_key_and_refuses_readers() {
    let mut site = Site::set_up().await;
    let fill = |sql: &str| sql.replace("{now}", &NOW_MS.replacen("SELECT ", "", 1));
    let held = "SELECT COUNT(*) FROM {locks} WHERE lock_id = 'earlier000000000000000'";
    let readers = [reader("job"), reader("job")];
    for request in &readers {
        granted(&site.backend, request).await;
    }
    for request in &readers {
        site.run(&fill(EARLIER_ACQUIRE)).await;
        assert_eq!(site.number(held).await, 0);
        assert!(released(&site.backend, request).await);
    }
    site.run(&fill(EARLIER_ACQUIRE)).await;
    assert_eq!(site.number(held).await, 1, "it is free after the last");
    let outcome = site.backend.acquire(&reader("job")).await.unwrap();
    assert!(matches!(outcome, AcquireOutcome::Contended { .. }), "{outcome:?}");
    site.run(&fill(EARLIER_RELEASE)).await;
    let reader_then = reader("job");
    assert_eq!(granted(&site.backend, &reader_then).await.fence.number(), 4);
    // It releases the head by force: the holders that it leaves in the row count no more.
    site.run(&fill(EARLIER_RELEASE)).await;
    assert!(!extended(&site.backend, &reader_then).await);
    site.run(&fill(EARLIER_ACQUIRE)).await;
    let record = site.backend.lookup(&key("job").into()).await.unwrap().unwrap();
    assert_eq!((record.mode, record.holders.len()), (Mode::Exclusive, 0));
    assert!(!released(&site.backend, &reader_then).await);
}

#[tokio::test]
async fn a_table_of_an_earlier_version_has_exclusive_locks_until_the_schema_step() {
    let (server, name) = (shared().await, Name::fresh());
    let mut foreign = Foreign::open(server.url()).await;
    name.connect(server.url()).await;
    let columns = "permits holders announced_id announced_fence announced_until_ms member_of";
    for column in columns.split(' ') {
        foreign.run(&name.fill(&format!("ALTER TABLE {{locks}} DROP COLUMN {column}"))).await;
    }
    foreign.run(&name.fill("UPDATE {locks}_schema SET revision = 2")).await;
    let earlier = name.connect(server.url()).await;
    let error = error_of(earlier.acquire(&reader("job")).await, ErrorKind::Unsupported);
    assert!(error.to_string().contains("setup_schema") && !error.may_have_applied(), "{error}");
    assert_eq!(acquire_and_release(&earlier, "job").await, 1);
    let request = ask("job", LONG);
    granted(&earlier, &request).await;
    assert!(extended(&earlier, &request).await && is_contended(&earlier, "job").await);
    earlier.abandon(request.lock_id, &request.key).await.unwrap();
    assert!(earlier.force_release(&key("job")).await.unwrap().is_none());
    assert!(!released(&earlier, &request).await);
    earlier.prune(Duration::ZERO).await.unwrap();
    assert_eq!(recorded(&mut foreign, &name).await, (1, 2), "connecting changes nothing");

    for _ in 0..2 {
        MysqlBackend::setup_schema(&name.config(server.url())).await.unwrap();
        foreign.run(&name.config(server.url()).schema_sql().unwrap()).await;
        assert_eq!(recorded(&mut foreign, &name).await, (1, 3));
    }
    let request = reader("job");
    granted(&name.connect(server.url()).await, &request).await;
    assert!(is_contended(&earlier, "job").await, "who was connected goes on");
    assert!(is_locked(&earlier, "job").await);
    assert!(earlier.force_release(&key("job")).await.unwrap().is_some());
    assert!(!is_locked(&earlier, "job").await);
}

/// What may be found in place of the holders, in SQL.
const DAMAGED: [&str; 12] = [
    "NULL",
    "''",
    "'nonsense'",
    "'[]'",
    "JSON_OBJECT()",
    "JSON_OBJECT('id:short', JSON_OBJECT())",
    "JSON_REMOVE(holders, CONCAT('$.\"id:', 'ID', '\".expires_at_ms'))",
    "JSON_REMOVE(holders, CONCAT('$.\"id:', 'ID', '\".fence'))",
    "JSON_SET(holders, CONCAT('$.\"id:', 'ID', '\".expires_at_ms'), 'soon')",
    "JSON_SET(holders, CONCAT('$.\"id:', 'ID', '\".expires_at_ms'), JSON_ARRAY())",
    "JSON_SET(holders, CONCAT('$.\"id:', 'ID', '\".fence'), -1)",
    "JSON_SET(holders, CONCAT('$.\"id:', 'ID', '\"'), 7)",
];

#[tokio::test]
async fn holders_that_cannot_be_read_are_an_error_and_are_cleared_by_force() {
    let mut site = Site::set_up().await;
    for (number, damage) in DAMAGED.into_iter().enumerate() {
        let text = format!("job {number}");
        let [request, other] = [reader(&text), reader(&text)];
        granted(&site.backend, &request).await;
        granted(&site.backend, &other).await;
        let damage = damage.replace("ID", request.lock_id.as_str());
        site.run(&format!("UPDATE {{locks}} SET holders = {damage} WHERE lock_key = '{text}'"))
            .await;
        assert!(is_contended(&site.backend, &text).await);
        error_of(site.backend.acquire(&reader(&text)).await, ErrorKind::Internal);
        error_of(site.backend.lookup(&key(&text).into()).await, ErrorKind::Internal);
        error_of(site.other().await.lookup(&other.lock_id.into()).await, ErrorKind::Internal);
        let head = format!(
            "SELECT COUNT(*) FROM {{locks}} WHERE lock_key = '{text}'
            AND LENGTH(lock_id) = 21 AND expires_at_ms > 0"
        );
        assert_eq!(site.number(&head).await, 1, "{damage}: nothing is granted over it");
        let error = error_of(site.backend.force_release(&key(&text)).await, ErrorKind::Internal);
        assert!(error.has_applied(), "{damage}: {error}");
        assert!(!is_locked(&site.backend, &text).await);
        assert!(!extended(&site.backend, &request).await, "{damage}");
        granted(&site.backend, &reader(&text)).await;
    }
}

#[tokio::test]
async fn pruning_keeps_heads_and_the_members_that_they_name() {
    let mut site = Site::set_up().await;
    let [stays, crashed, gone] = ["job", "job", "gone"].map(reader);
    for request in [&stays, &crashed, &gone] {
        granted(&site.backend, request).await;
    }
    // All were granted long ago. One key has expired, and one member was left by its grant.
    let path = format!("'$.\"id:{}\"'", crashed.lock_id.as_str());
    site.run("UPDATE {locks} SET acquired_at_ms = 1").await;
    site.run("UPDATE {locks} SET expires_at_ms = 2 WHERE lock_key = 'gone'").await;
    site.run(&format!(
        "UPDATE {{locks}} SET holders = JSON_REMOVE(holders, {path}) WHERE lock_key = 'job'"
    ))
    .await;
    // The first ends the head of the expired key, and the second finds its member without it.
    site.backend.prune(Duration::from_secs(3_600)).await.unwrap();
    site.backend.prune(Duration::from_secs(3_600)).await.unwrap();
    assert_eq!(site.number(MEMBERS).await, 1);
    let holders = "SELECT COUNT(*) FROM {locks} WHERE lock_key = 'gone' AND holders IS NOT NULL";
    assert_eq!(site.number(holders).await, 0, "they take no space");
    let other = site.other().await;
    assert!(extended(&other, &stays).await && released(&other, &stays).await);
    assert_eq!(site.number(MEMBERS).await, 0);
    assert_eq!(granted(&site.backend, &reader("gone")).await.fence.number(), 2);
}

#[tokio::test]
async fn releases_prune_old_members_that_no_head_names() {
    let mut site = Site::set_up().await;
    let stays = reader("held");
    granted(&site.backend, &stays).await;
    site.run("UPDATE {locks} SET acquired_at_ms = 1").await;
    let columns = "(lock_key, fence, lock_id, acquired_at_ms, expires_at_ms, member_of)";
    for number in 0..20 {
        let id = format!("m{number:021}");
        site.run(&format!(
            "INSERT INTO {{locks}} {columns} VALUES (CONCAT(X'FE', '{id}'), 0, '{id}', 1, 0, 'held')"
        ))
        .await;
    }
    let backend = site.backend.clone();
    eventually("they have gone", async || {
        for _ in 0..64 {
            acquire_and_release(&backend, "job").await;
        }
        site.number(MEMBERS).await == 1
    })
    .await;
    assert!(released(&site.other().await, &stays).await);
}

#[tokio::test]
async fn releases_keep_the_members_of_a_head_that_another_client_has_locked() {
    let mut site = Site::set_up().await;
    let stays = reader("held");
    granted(&site.backend, &stays).await;
    acquire_and_release(&site.backend, "free").await;
    site.run("UPDATE {locks} SET acquired_at_ms = 1").await;
    // Of these two, whichever pruning examines the second has examined the first before.
    let columns = "(lock_key, fence, acquired_at_ms, expires_at_ms, member_of)";
    let next = format!("CONCAT(X'FE', '{}', '-')", stays.lock_id.as_str());
    site.run(&format!("INSERT INTO {{locks}} {columns} VALUES ({next}, 0, 1, 0, 'free')")).await;
    let mut other = Foreign::open(site.server.url()).await;
    other.run("BEGIN").await;
    let locked = "SELECT * FROM {locks} WHERE lock_key = 'held' FOR UPDATE";
    other.run(&site.name.fill(locked)).await;
    let backend = site.backend.clone();
    let next = format!("SELECT COUNT(*) FROM {{locks}} WHERE lock_key = {next}");
    eventually("the second has gone", async || {
        for _ in 0..64 {
            acquire_and_release(&backend, "job").await;
        }
        site.number(&next).await == 0
    })
    .await;
    assert_eq!(site.number(MEMBERS).await, 1, "the first stays");
    other.run("COMMIT").await;
    assert!(released(&site.other().await, &stays).await);
}

#[tokio::test]
async fn holders_that_have_expired_are_removed_from_a_head_that_others_keep() {
    let mut site = Site::set_up().await;
    let crashed = reader("job");
    granted(&site.backend, &crashed).await;
    granted(&site.backend, &reader("job")).await;
    let path = format!("'$.\"id:{}\".expires_at_ms'", crashed.lock_id.as_str());
    site.run(&format!(
        "UPDATE {{locks}} SET holders = JSON_SET(holders, {path}, 1) WHERE lock_key = 'job'"
    ))
    .await;
    granted(&site.backend, &reader("job")).await;
    let left = "SELECT JSON_LENGTH(holders) FROM {locks} WHERE lock_key = 'job'";
    eventually("it is removed", async || {
        (site.number(left).await, site.number(MEMBERS).await) == (2, 2)
    })
    .await;
}

/// The announcement is written after the abandon: the request was in flight.
#[tokio::test]
async fn an_abandoned_writer_announces_nothing() {
    let mut site = Site::set_up().await;
    granted(&site.backend, &reader("job")).await;
    let writer = ask("job", LONG).with_announcement(Some(LONG));
    site.backend.abandon(writer.lock_id, &writer.key).await.unwrap();
    drop(site.backend.acquire(&writer).await);
    granted(&site.backend, &reader("job")).await;
    let announced = "SELECT COUNT(*) FROM {locks} WHERE announced_id IS NOT NULL";
    assert_eq!(site.number(announced).await, 0);
}

/// A path to a name that begins with a hyphen is an error on MariaDB.
#[tokio::test]
async fn an_id_may_begin_with_a_hyphen() {
    let mut site = Site::set_up().await;
    let mut request = reader("job");
    request.lock_id = "-_-_-_-_-_-_-_-_-_-_-A".parse().unwrap();
    granted(&site.backend, &request).await;
    assert!(extended(&site.backend, &request).await && released(&site.backend, &request).await);
    request.lock_id = "-_-_-_-_-_-_-_-_-_-_-Q".parse().unwrap();
    granted(&site.backend, &request).await;
    site.backend.abandon(request.lock_id, &request.key).await.unwrap();
    assert_eq!(site.number(MEMBERS).await, 0);
}

/// The tombstone is not committed yet when the grant looks for it, so only the unique index can order
/// the two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_abandoned_while_it_is_granted_holds_nothing() {
    let mut site = Site::set_up().await;
    let (present, request) = (reader("job"), reader("job"));
    granted(&site.backend, &present).await;
    let id = request.lock_id.as_str();
    site.run("BEGIN").await;
    let tombstone = "INSERT INTO {locks} (lock_key, fence, lock_id, acquired_at_ms, expires_at_ms)";
    site.run(&format!("{tombstone} VALUES (CONCAT(X'FF', '{id}'), 0, '{id}', 1, 0)")).await;
    let backend = site.backend.clone();
    let acquire = tokio::spawn(async move { backend.acquire(&request).await });
    let waiting = <Name as Tables>::WAITING;
    eventually("the grant waits for the tombstone", async || site.number(waiting).await == 1).await;
    site.run("COMMIT").await;
    let error = error_of(acquire.await.unwrap(), ErrorKind::Aborted);
    assert!(!error.may_have_applied(), "{error}");
    let record = site.backend.lookup(&key("job").into()).await.unwrap().unwrap();
    assert_eq!((record.holders.len(), record.fence.number()), (1, 1));
    assert_eq!(site.number(MEMBERS).await, 1);
    assert!(released(&site.backend, &present).await);
}
