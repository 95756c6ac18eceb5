//! What is stored, column by column.

use std::sync::Arc;

use sqlx::{Column, Row, postgres::PgRow};
use syncguard_core::{
    ErrorKind, Owner, ReleaseOutcome,
    backend::{AcquireOutcome, ExtendOutcome, ListRequest, LockBackend, LockRef},
};
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::{
    log_capture::EventCounter,
    operations::{LONG, ask, error_of, granted, is_contended, key, lock_of, released, ttl},
    server::PostgresServer,
    sql::wire,
};

use crate::{Foreign, Names, shared};

const ID: &str = "abcdefghijklmnopqrstuv";

struct Tables {
    _server: Arc<PostgresServer>,
    names: Names,
    backend: PostgresBackend,
    foreign: Foreign,
}

impl Tables {
    async fn set_up() -> Self {
        let (server, names) = (shared().await, Names::fresh());
        let backend = names.connect(&server.url()).await;
        let foreign = Foreign::open(&server.url()).await;
        Self { _server: server, names, backend, foreign }
    }

    async fn rows(&mut self, sql: &str) -> Vec<PgRow> {
        let sql = self.named(sql);
        sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut self.foreign.0).await.unwrap()
    }

    async fn run(&mut self, sql: &str) {
        let sql = self.named(sql);
        self.foreign.run(&sql).await;
    }

    fn named(&self, sql: &str) -> String {
        sql.replace("{locks}", &self.names.locks).replace("{counters}", &self.names.counters)
    }

    async fn now_ms(&mut self) -> i64 {
        let now = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
        self.foreign.number(now).await
    }

    /// Writes a lock as the TypeScript client does: these six columns, without a condition.
    async fn write_as_typescript(&mut self, text: &str, id: &str, expires: i64) {
        let fence = "000000000000005";
        self.run(&format!(
            "INSERT INTO {{locks}} (key, lock_id, expires_at_ms, acquired_at_ms, fence, user_key)
             VALUES ('{text}', '{id}', {expires}, 7, '{fence}', '{text}')
             ON CONFLICT (key) DO UPDATE SET lock_id = EXCLUDED.lock_id,
                 expires_at_ms = EXCLUDED.expires_at_ms, acquired_at_ms = EXCLUDED.acquired_at_ms,
                 fence = EXCLUDED.fence, user_key = EXCLUDED.user_key"
        ))
        .await;
        self.run(&format!(
            "INSERT INTO {{counters}} (fence_key, fence, key_debug)
             VALUES ('fence:{text}', 5, '{text}') ON CONFLICT DO NOTHING"
        ))
        .await;
    }
}

#[tokio::test]
async fn a_row_of_a_typescript_client_is_respected() {
    let mut tables = Tables::set_up().await;
    let expires = tables.now_ms().await + 30_000;
    tables.write_as_typescript("job", ID, expires).await;
    let backend = tables.backend.clone();
    let outcome = backend.acquire(&ask("job", LONG)).await.unwrap();
    let AcquireOutcome::Contended { holder: Some(holder) } = outcome else { panic!("{outcome:?}") };
    assert_eq!((holder.fence.unwrap().number(), holder.owner, holder.silent), (5, None, true));
    let id: syncguard_core::LockId = ID.parse().unwrap();
    for query in [key("job").into(), id.into()] {
        let found = backend.lookup(&query).await.unwrap().unwrap();
        assert_eq!((found.lock_id, found.acquired_at.unix_millis()), (id, 7));
        assert_eq!(found.expires_at.unix_millis(), expires);
    }
    let stranger = LockRef::new("-".repeat(22).parse().unwrap(), key("job"));
    assert!(matches!(backend.release(&stranger).await.unwrap(), ReleaseOutcome::NotHeld(_)));
    let moved = backend.extend(&id.into(), ttl(LONG)).await.unwrap();
    assert!(matches!(moved, ExtendOutcome::Extended { .. }));
    assert_eq!(backend.release(&id.into()).await.unwrap(), ReleaseOutcome::Released);
    assert_eq!(granted(&backend, &ask("job", LONG)).await.fence.number(), 6);
}

#[tokio::test]
async fn an_owner_survives_extends_by_both_clients() {
    let mut tables = Tables::set_up().await;
    let request = ask("job", LONG).with_owner(Owner::new("ci-7").ok());
    granted(&tables.backend, &request).await;
    // This is what the TypeScript client's transaction does to the row.
    let (expires, id) = (tables.now_ms().await + 80_000, request.lock_id);
    let extend =
        format!("UPDATE {{locks}} SET expires_at_ms = {expires} WHERE lock_id = '{}'", id.as_str());
    tables.run(&extend).await;
    let backend = tables.backend.clone();
    let found = backend.lookup(&key("job").into()).await.unwrap().unwrap();
    assert_eq!((found.expires_at.unix_millis(), found.owner), (expires, request.owner.clone()));
    let moved = backend.extend(&id.into(), ttl(LONG)).await.unwrap();
    assert!(matches!(moved, ExtendOutcome::Extended { .. }));
    let outcome = backend.acquire(&ask("job", LONG)).await.unwrap();
    let AcquireOutcome::Contended { holder: Some(holder) } = outcome else { panic!("{outcome:?}") };
    assert_eq!(holder.owner, request.owner);
}

#[tokio::test]
async fn an_owner_that_a_typescript_upsert_leaves_behind_is_ignored() {
    let mut tables = Tables::set_up().await;
    let named = ask("job", LONG).with_owner(Owner::new("former").ok());
    granted(&tables.backend, &named).await;
    tables.run("UPDATE {locks} SET expires_at_ms = 1").await;
    let expires = tables.now_ms().await + 30_000;
    tables.write_as_typescript("job", ID, expires).await;
    let left = tables.rows("SELECT owner FROM {locks}").await;
    assert_eq!(left[0].get::<String, _>(0), "former", "it is still there");
    let backend = tables.backend.clone();
    let outcome = backend.acquire(&ask("job", LONG)).await.unwrap();
    let AcquireOutcome::Contended { holder: Some(holder) } = outcome else { panic!("{outcome:?}") };
    assert_eq!(holder.owner, None);
    let found = backend.lookup(&key("job").into()).await.unwrap().unwrap();
    assert_eq!((found.owner, found.lock_id.as_str()), (None, ID));
    let listed = backend.list(&ListRequest::new("")).await.unwrap();
    assert_eq!(listed.locks[0].owner, None);
}

#[tokio::test]
async fn this_backend_writes_the_documented_format() {
    let mut tables = Tables::set_up().await;
    let text = "a\"b\\c'd;é🔒";
    let request = ask(text, LONG).with_owner(Owner::new("web-3 \"blue\"").ok());
    let grant = granted(&tables.backend, &request).await;
    let expires = grant.expires_at.unix_millis();
    let rows = tables.rows("SELECT * FROM {locks}").await;
    assert_eq!(rows.len(), 1);
    let names: Vec<_> = rows[0].columns().iter().map(|column| column.name().to_owned()).collect();
    let six = ["key", "lock_id", "expires_at_ms", "acquired_at_ms", "fence", "user_key"];
    assert_eq!(names[..6], six);
    let text_in = |name: &str| rows[0].get::<String, _>(name);
    assert_eq!((text_in("key").as_str(), text_in("user_key").as_str()), (text, text));
    assert_eq!(text_in("lock_id"), request.lock_id.as_str());
    assert_eq!(text_in("fence"), "000000000000001");
    assert_eq!(rows[0].get::<i64, _>("expires_at_ms"), expires);
    assert_eq!(rows[0].get::<i64, _>("acquired_at_ms"), expires - 60_000);
    assert_eq!(text_in("owner"), "web-3 \"blue\"");
    assert_eq!(text_in("owner_lock_id"), request.lock_id.as_str());
    let rows = tables.rows("SELECT * FROM {counters}").await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].get::<String, _>("fence_key"), format!("fence:{text}"));
    assert_eq!(rows[0].get::<i64, _>("fence"), 1);
    assert_eq!(rows[0].get::<String, _>("key_debug"), text);
    assert!(released(&tables.backend, &request).await);
    assert!(tables.rows("SELECT 1 FROM {locks}").await.is_empty(), "only the counter stays");
}

#[tokio::test]
async fn the_indexes_have_the_names_of_the_typescript_client() {
    let mut tables = Tables::set_up().await;
    let sql = "SELECT indexname::text FROM pg_indexes WHERE tablename = '{locks}' ORDER BY 1";
    let rows = tables.rows(sql).await;
    let found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let locks = &tables.names.locks;
    let expected =
        [format!("idx_{locks}_expires"), format!("idx_{locks}_lock_id"), format!("{locks}_pkey")];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_key_that_text_cannot_hold_is_hashed_and_shown_with_an_escape() {
    let mut tables = Tables::set_up().await;
    let text = "nul\0\\key";
    let request = ask(text, LONG);
    granted(&tables.backend, &request).await;
    let row = &tables.rows("SELECT key, user_key, fence_key FROM {locks}, {counters}").await[0];
    let stored: String = row.get("key");
    assert_eq!(stored.len(), 22);
    assert_eq!(row.get::<String, _>("user_key"), r"nul\0\\key");
    assert_eq!(row.get::<String, _>("fence_key"), format!("fence:{stored}"));
    let found = tables.backend.lookup(&request.lock_id.into()).await.unwrap().unwrap();
    assert_eq!(found.key.as_str(), text);
    for (prefix, count) in [("nul\0", 1), ("nul", 1), (r"nul\", 0), ("nul\0\\k", 1), ("", 1)] {
        let page = tables.backend.list(&ListRequest::new(prefix)).await.unwrap();
        assert_eq!(page.locks.len(), count, "{prefix:?}");
    }
}

#[tokio::test]
async fn an_id_whose_own_grant_has_expired_is_not_granted_again() {
    wire::an_id_whose_own_grant_has_expired_is_not_granted_again::<Names>().await;
}

#[tokio::test]
async fn an_id_that_holds_one_key_is_granted_no_other() {
    wire::an_id_that_holds_one_key_is_granted_no_other::<Names>().await;
}

#[tokio::test]
async fn an_invalid_counter_is_rejected_before_anything_is_stored() {
    let mut tables = Tables::set_up().await;
    for bad in [-1, 900_000_000_000_000, i64::MAX] {
        let seed = format!(
            "INSERT INTO {{counters}} (fence_key, fence) VALUES ('fence:job', {bad})
             ON CONFLICT (fence_key) DO UPDATE SET fence = EXCLUDED.fence"
        );
        tables.run(&seed).await;
        let error = error_of(tables.backend.acquire(&ask("job", LONG)).await, ErrorKind::Internal);
        assert!(!error.may_have_applied(), "{bad}");
        let rows = tables.rows("SELECT fence FROM {counters}").await;
        assert_eq!(rows[0].get::<i64, _>(0), bad, "it is left alone");
        assert!(tables.rows("SELECT 1 FROM {locks}").await.is_empty());
    }
}

#[tokio::test]
async fn a_record_that_is_not_a_lock_is_an_error_and_is_left_unchanged() {
    let mut tables = Tables::set_up().await;
    let expires = tables.now_ms().await + 30_000;
    tables.write_as_typescript("job", ID, expires).await;
    tables.run("UPDATE {locks} SET fence = 'nonsense'").await;
    error_of(tables.backend.acquire(&ask("job", LONG)).await, ErrorKind::Internal);
    error_of(tables.backend.lookup(&key("job").into()).await, ErrorKind::Internal);
    let rows = tables.rows("SELECT lock_id FROM {locks}").await;
    assert_eq!(rows[0].get::<String, _>(0), ID);
}

#[tokio::test]
async fn an_abandoned_id_leaves_a_row_that_is_not_a_lock() {
    let mut tables = Tables::set_up().await;
    let request = ask("job", LONG).with_owner(Owner::new("web").ok());
    granted(&tables.backend, &request).await;
    tables.backend.abandon(request.lock_id, &request.key).await.unwrap();
    let sql = "SELECT octet_length(key), lock_id, owner FROM {locks} WHERE expires_at_ms = 0";
    let rows = tables.rows(sql).await;
    assert_eq!(rows.len(), 1);
    assert!(rows[0].get::<i32, _>(0) > 512, "it is too long to be a key");
    assert_eq!(rows[0].get::<String, _>(1), request.lock_id.as_str());
    assert_eq!(rows[0].get::<Option<String>, _>(2), None);
    let gone = tables.backend.extend(&lock_of(&request), ttl(LONG)).await.unwrap();
    assert!(matches!(gone, ExtendOutcome::NotHeld(_)));
    assert!(tables.backend.list(&ListRequest::new("")).await.unwrap().locks.is_empty());
    assert!(!is_contended(&tables.backend, "job").await);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_omitted_from_a_list_and_counted() {
    let mut tables = Tables::set_up().await;
    let expires = tables.now_ms().await + 60_000;
    for text in ["a", "b", "c", "d"] {
        tables.write_as_typescript(text, &format!("{ID:.21}{text}"), expires).await;
    }
    tables.run("UPDATE {locks} SET fence = 'seven' WHERE key IN ('a', 'd')").await;
    tables.run("UPDATE {locks} SET lock_id = 'none' WHERE key = 'c'").await;
    let (heard, _guard) = EventCounter::install("unreadable");
    let (keys, pages) = wire::listed(&tables.backend, 2).await;
    assert_eq!((keys, pages, heard.count()), (vec!["b".to_owned()], 3, 2));
}
