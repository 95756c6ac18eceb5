//! Tables of earlier and later clients, and what becomes of rows that no one needs any more.

use syncguard_core::{ErrorKind, LockBackend};
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::operations::{
    LONG, ask, error_of, eventually, granted, is_locked, released,
};

use crate::{Foreign, Names, shared, typescript::with_names};

/// Reads the row of the revision: the least version of a client, and the revision.
async fn recorded(foreign: &mut Foreign, names: &Names) -> (i64, i64) {
    let read = |column: &str| format!("SELECT {column} FROM {}_schema WHERE id = 1", names.locks);
    (foreign.number(&read("version")).await, foreign.number(&read("revision")).await)
}

async fn is_recorded(foreign: &mut Foreign, names: &Names) -> bool {
    let sql = format!("SELECT (to_regclass('{}_schema') IS NOT NULL)::int::bigint", names.locks);
    foreign.number(&sql).await == 1
}

async fn pass(backend: &PostgresBackend, text: &str) -> u64 {
    let request = ask(text, LONG);
    let grant = granted(backend, &request).await;
    assert!(released(backend, &request).await);
    grant.fence.number()
}

#[tokio::test]
async fn tables_of_typescript_are_the_first_revision_until_the_schema_step() {
    let (server, names) = (shared().await, Names::fresh());
    let mut foreign = Foreign::open(&server.url()).await;
    let create = "CREATE TABLE {locks} (key text PRIMARY KEY, lock_id text NOT NULL UNIQUE,
            expires_at_ms bigint NOT NULL, acquired_at_ms bigint NOT NULL, fence text NOT NULL,
            user_key text NOT NULL);
        CREATE TABLE {counters} (fence_key text PRIMARY KEY, fence bigint NOT NULL DEFAULT 0,
            key_debug text)";
    foreign.run(&with_names(create, &names)).await;
    let backend = names.connect(&server.url()).await;
    assert_eq!(pass(&backend, "job").await, 1);
    assert!(!is_recorded(&mut foreign, &names).await, "connecting changes nothing");
    for _ in 0..2 {
        PostgresBackend::setup_schema(&names.config(&server.url())).await.unwrap();
        assert_eq!(recorded(&mut foreign, &names).await, (1, 2));
    }
    assert_eq!(pass(&backend, "job").await, 2, "who was connected goes on");
    assert_eq!(pass(&names.connect(&server.url()).await, "job").await, 3);
    // As a client leaves it that knew all columns, and no revisions.
    foreign.run(&format!("DROP TABLE {}_schema", names.locks)).await;
    assert_eq!(pass(&names.connect(&server.url()).await, "job").await, 4);
    assert!(!is_recorded(&mut foreign, &names).await, "connecting changes nothing");
    PostgresBackend::setup_schema(&names.config(&server.url())).await.unwrap();
    assert_eq!(recorded(&mut foreign, &names).await, (1, 2));
}

#[tokio::test]
async fn tables_that_demand_a_later_client_are_refused_and_left_alone() {
    let (server, names) = (shared().await, Names::fresh());
    let backend = names.connect(&server.url()).await;
    let mut foreign = Foreign::open(&server.url()).await;
    assert_eq!(recorded(&mut foreign, &names).await, (1, 2));
    foreign.run(&format!("UPDATE {}_schema SET version = 3, revision = 4", names.locks)).await;
    for refused in [
        PostgresBackend::connect(names.config(&server.url())).await.map(drop),
        PostgresBackend::setup_schema(&names.config(&server.url())).await,
        backend.check().await.map(drop),
    ] {
        let error = error_of(refused, ErrorKind::Unsupported);
        assert!(!error.may_have_applied());
        let text = error.to_string();
        assert!(text.contains("version 3") && text.contains("version 2"), "{text}");
    }
    assert_eq!(recorded(&mut foreign, &names).await, (3, 4));
}

#[tokio::test]
async fn later_tables_that_this_client_may_use_are_used_and_not_set_back() {
    let (server, names) = (shared().await, Names::fresh());
    names.connect(&server.url()).await;
    let mut foreign = Foreign::open(&server.url()).await;
    foreign.run(&format!("UPDATE {}_schema SET version = 2, revision = 9", names.locks)).await;
    foreign.run(&format!("ALTER TABLE {} ADD COLUMN future text", names.locks)).await;
    let backend = names.connect(&server.url()).await;
    PostgresBackend::setup_schema(&names.config(&server.url())).await.unwrap();
    foreign.run(&names.config(&server.url()).schema_sql().unwrap()).await;
    assert_eq!(pass(&backend, "job").await, 1);
    assert_eq!(recorded(&mut foreign, &names).await, (2, 9));
}

#[tokio::test]
async fn a_version_that_makes_no_sense_is_an_error_and_nothing_is_changed() {
    let (server, names) = (shared().await, Names::fresh());
    names.connect(&server.url()).await;
    let mut foreign = Foreign::open(&server.url()).await;
    for change in [
        "UPDATE {}_schema SET version = 0",
        "UPDATE {}_schema SET version = -1",
        "UPDATE {}_schema SET version = 2, revision = 1",
        "DELETE FROM {}_schema",
    ] {
        foreign.run(&change.replace("{}", &names.locks)).await;
        let connected = PostgresBackend::connect(names.config(&server.url())).await;
        assert!(!error_of(connected, ErrorKind::Internal).may_have_applied(), "{change}");
        error_of(
            PostgresBackend::setup_schema(&names.config(&server.url())).await,
            ErrorKind::Internal,
        );
    }
}

#[tokio::test]
async fn rows_of_the_past_go_a_few_at_a_time_with_the_releases_of_others_and_fences_stay() {
    const PLANT: &str = "
        INSERT INTO {counters} SELECT 'fence:past-' || i, i FROM generate_series(1, 250) AS i;
        INSERT INTO {locks}
        SELECT 'past-' || i, lpad(i::text, 22, '0'), 2, 1, lpad(i::text, 15, '0'), 'past-' || i
        FROM generate_series(1, 250) AS i;
        INSERT INTO {locks} SELECT 'ahead', 'ahead', 2, 1, lpad('7', 15, '0'), 'ahead';
        INSERT INTO {locks} SELECT 'foreign', 'foreign', 2, 1, 'seven', 'foreign'";
    let (server, names) = (shared().await, Names::fresh());
    let backend = names.connect(&server.url()).await;
    let mut foreign = Foreign::open(&server.url()).await;
    granted(&backend, &ask("held", LONG)).await;
    foreign.run(&with_names(PLANT, &names)).await;
    let mut other = Foreign::open(&server.url()).await;
    other.run("BEGIN").await;
    other.run(&with_names("SELECT * FROM {locks} WHERE key = 'past-250' FOR UPDATE", &names)).await;
    let count = with_names("SELECT count(*) FROM {locks}", &names);
    let mut passes = 0_i64;
    // The one that is held, the two that do not fit their counters, and the one that is locked.
    eventually("all else has gone", async || {
        for _ in 0..64 {
            pass(&backend, "job").await;
        }
        passes += 1;
        let left = foreign.number(&count).await;
        assert!(253 - left <= 64 * passes, "too many at once: {left} are left");
        left == 4
    })
    .await;
    other.run("COMMIT").await;
    let fences =
        "SELECT count(*) FROM {counters} WHERE fence_key LIKE 'fence:past-%' AND fence > 0";
    assert_eq!(foreign.number(&with_names(fences, &names)).await, 250);
    assert!(is_locked(&backend, "held").await);
    assert_eq!(pass(&backend, "past-7").await, 8);
}
