//! What is stored, column by column.

use sqlx::{AssertSqlSafe, Row, mysql::MySqlRow};
use syncguard_core::{
    ErrorKind, Owner,
    backend::{ExtendOutcome, ListRequest, LockBackend, PageToken},
};
use syncguard_mysql::MysqlBackend;
use syncguard_testkit::{
    log_capture::EventCounter,
    operations::{
        LONG, ask, error_of, eventually, granted, is_contended, is_locked, key, lock_of, released,
        ttl,
    },
    server::{Mariadb, MariadbServer, Shared},
    sql::wire,
};

use crate::{Foreign, Name, connect, shared};

struct Table {
    _server: Shared<Mariadb>,
    name: Name,
    backend: MysqlBackend,
    foreign: Foreign,
}

impl Table {
    async fn set_up() -> Self {
        let (server, name) = (shared().await, Name::fresh());
        let backend = name.connect(server.url()).await;
        let foreign = Foreign::open(server.url()).await;
        Self { _server: server, name, backend, foreign }
    }

    async fn rows(&mut self, sql: &str) -> Vec<MySqlRow> {
        let sql = AssertSqlSafe(self.name.fill(sql));
        sqlx::raw_sql(sql).fetch_all(&mut self.foreign.0).await.unwrap()
    }

    async fn run(&mut self, sql: &str) {
        let sql = self.name.fill(sql);
        self.foreign.run(&sql).await;
    }

    /// Returns the fence of the only row.
    async fn fence(&mut self) -> u64 {
        self.rows("SELECT fence FROM {locks}").await[0].get(0)
    }
}

#[tokio::test]
async fn the_columns_are_written_as_the_schema_defines_them() {
    let mut table = Table::set_up().await;
    let text = "a\"b\\c'd;é🔒\0 ";
    let request = ask(text, LONG).with_owner(Owner::new("web-3 \"blåe\"").ok());
    let grant = granted(&table.backend, &request).await;
    let expires = grant.expires_at.unix_millis();
    let rows = table.rows("SELECT * FROM {locks}").await;
    let [row] = rows.as_slice() else { panic!("{} rows", rows.len()) };
    assert_eq!(row.get::<&[u8], _>("lock_key"), text.as_bytes());
    assert_eq!(row.get::<&[u8], _>("lock_id"), request.lock_id.as_str().as_bytes());
    assert_eq!(row.get::<u64, _>("fence"), 1);
    assert_eq!(row.get::<&str, _>("owner"), "web-3 \"blåe\"");
    assert_eq!(row.get::<i64, _>("expires_at_ms"), expires);
    assert_eq!(row.get::<i64, _>("acquired_at_ms"), expires - 60_000);
    assert!(released(&table.backend, &request).await);
    let rows = table.rows("SELECT * FROM {locks}").await;
    let [row] = rows.as_slice() else { panic!("{} rows", rows.len()) };
    assert_eq!(row.get::<Option<&[u8]>, _>("lock_id"), None);
    assert_eq!(row.get::<Option<&str>, _>("owner"), None);
    assert_eq!((row.get::<u64, _>("fence"), row.get::<i64, _>("expires_at_ms")), (1, 0));
}

/// Returns the position in the server's log of its tables.
async fn written(foreign: &mut Foreign) -> String {
    let written = "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS
        WHERE VARIABLE_NAME = 'INNODB_LSN_CURRENT'";
    foreign.text(written).await
}

#[tokio::test]
async fn a_contended_attempt_writes_nothing() {
    let server = MariadbServer::start().await.unwrap();
    let backend = connect(&server.url()).await;
    let mut foreign = Foreign::open(&server.url()).await;
    let before = written(&mut foreign).await;
    granted(&backend, &ask("job", LONG)).await;
    assert_ne!(written(&mut foreign).await, before, "what is written is counted");
    // The server's own writes come to an end.
    eventually("fifty attempts write nothing", async || {
        let before = written(&mut foreign).await;
        for _ in 0..50 {
            assert!(is_contended(&backend, "job").await);
        }
        written(&mut foreign).await == before
    })
    .await;
}

/// The server shows a commit before it is on the disk. Therefore a client that finds a grant made
/// by another request must wait for a write of its own.
#[tokio::test]
async fn acquiring_again_writes_so_that_the_grant_is_on_the_disk() {
    let mut table = Table::set_up().await;
    let request = ask("job", LONG);
    let grant = granted(&table.backend, &request).await;
    assert_eq!(table.rows("SELECT * FROM {locks}").await.len(), 1);
    for time in 1..=2 {
        assert_eq!(granted(&table.backend, &request).await, grant);
        let rows = table.rows("SELECT * FROM {locks} WHERE lock_key = X'FF'").await;
        assert_eq!(rows[0].get::<i64, _>("acquired_at_ms"), time);
    }
    assert_eq!(table.backend.list(&ListRequest::new("")).await.unwrap().locks.len(), 1);
}

#[tokio::test]
async fn an_id_whose_own_grant_has_expired_is_not_granted_again() {
    wire::an_id_whose_own_grant_has_expired_is_not_granted_again::<Name>().await;
}

#[tokio::test]
async fn an_id_that_holds_one_key_is_granted_no_other() {
    wire::an_id_that_holds_one_key_is_granted_no_other::<Name>().await;
}

#[tokio::test]
async fn a_counter_at_or_above_its_limit_is_rejected_before_anything_is_stored() {
    let mut table = Table::set_up().await;
    let row = "INSERT INTO {locks} (lock_key, fence, acquired_at_ms, expires_at_ms)
        VALUES ('job', 0, 0, 0)";
    table.run(row).await;
    for bad in [900_000_000_000_000, u64::MAX] {
        table.run(&format!("UPDATE {{locks}} SET fence = {bad}")).await;
        let error = error_of(table.backend.acquire(&ask("job", LONG)).await, ErrorKind::Internal);
        assert!(!error.may_have_applied(), "{bad}");
        assert_eq!(table.fence().await, bad, "it is left alone");
        assert!(!is_locked(&table.backend, "job").await);
    }
}

#[tokio::test]
async fn a_record_that_is_not_a_lock_is_an_error_and_is_left_unchanged() {
    let mut table = Table::set_up().await;
    granted(&table.backend, &ask("job", LONG)).await;
    table.run("UPDATE {locks} SET fence = 1000000000000000, lock_id = 'nonsense'").await;
    error_of(table.backend.acquire(&ask("job", LONG)).await, ErrorKind::Internal);
    error_of(table.backend.lookup(&key("job").into()).await, ErrorKind::Internal);
    let rows = table.rows("SELECT lock_id FROM {locks}").await;
    assert_eq!(rows[0].get::<&[u8], _>(0), b"nonsense");
}

#[tokio::test]
async fn an_abandoned_id_leaves_a_row_that_is_not_a_lock() {
    let mut table = Table::set_up().await;
    let request = ask("job", LONG).with_owner(Owner::new("web").ok());
    granted(&table.backend, &request).await;
    table.backend.abandon(request.lock_id, &request.key).await.unwrap();
    let rows = table.rows("SELECT * FROM {locks} WHERE lock_id IS NOT NULL").await;
    let [row] = rows.as_slice() else { panic!("{} rows", rows.len()) };
    assert!(std::str::from_utf8(row.get::<&[u8], _>("lock_key")).is_err(), "no text is like that");
    assert_eq!(row.get::<&[u8], _>("lock_id"), request.lock_id.as_str().as_bytes());
    assert_eq!((row.get::<u64, _>("fence"), row.get::<i64, _>("expires_at_ms")), (0, 0));
    let gone = table.backend.extend(&lock_of(&request), ttl(LONG)).await.unwrap();
    assert!(matches!(gone, ExtendOutcome::NotHeld(_)));
    assert!(table.backend.list(&ListRequest::new("")).await.unwrap().locks.is_empty());
    let next = granted(&table.backend, &ask("job", LONG)).await;
    assert_eq!(next.fence.number(), 2, "the fence stays with the key");
}

/// All values are sent in the text of the statements.
#[tokio::test]
async fn a_key_or_an_owner_is_always_sent_as_a_value() {
    let table = Table::set_up().await;
    for text in ["'; DROP TABLE x; --", "$1", "$2 {now} {locks}", "\\", "X'00'", "?", "/*! */"] {
        let request = ask(text, LONG).with_owner(Owner::new(text).ok());
        granted(&table.backend, &request).await;
        let found = table.backend.lookup(&key(text).into()).await.unwrap().unwrap();
        assert_eq!((found.key.as_str(), found.owner.unwrap().as_str()), (text, text));
        let listed = table.backend.list(&ListRequest::new(text)).await.unwrap();
        assert_eq!(listed.locks.len(), 1, "{text}");
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_omitted_from_a_list_and_counted() {
    let mut table = Table::set_up().await;
    for text in ["a", "b", "c"] {
        granted(&table.backend, &ask(text, LONG)).await;
    }
    table.run("UPDATE {locks} SET lock_id = 'none' WHERE lock_key = 'a'").await;
    table.run("UPDATE {locks} SET lock_key = X'C3' WHERE lock_key = 'c'").await;
    let (heard, _guard) = EventCounter::install("unreadable");
    let (keys, pages) = wire::listed(&table.backend, 1).await;
    assert_eq!((keys, pages, heard.count()), (vec!["b".to_owned()], 4, 2));
    let mut request = ListRequest::new("").limit(1);
    request.after = Some(PageToken::new("b"));
    error_of(table.backend.list(&request).await, ErrorKind::InvalidArgument);
}
