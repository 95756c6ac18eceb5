//! Tables of earlier and later clients, and the removal of rows that are no longer needed.

use syncguard_core::ErrorKind;
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::{
    operations::{LONG, ask, error_of, eventually, granted, is_locked},
    sql::schema::{self, acquire_and_release, recorded},
};

use crate::{Foreign, Names, shared, typescript::with_names};

async fn is_recorded(foreign: &mut Foreign, names: &Names) -> bool {
    let sql = format!("SELECT (to_regclass('{}_schema') IS NOT NULL)::int::bigint", names.locks);
    foreign.number(&sql).await == 1
}

#[tokio::test]
async fn tables_of_a_typescript_client_are_of_revision_1_until_the_schema_step() {
    let (server, names) = (shared().await, Names::fresh());
    let mut foreign = Foreign::open(&server.url()).await;
    let create = "CREATE TABLE {locks} (key text PRIMARY KEY, lock_id text NOT NULL UNIQUE,
            expires_at_ms bigint NOT NULL, acquired_at_ms bigint NOT NULL, fence text NOT NULL,
            user_key text NOT NULL);
        CREATE TABLE {counters} (fence_key text PRIMARY KEY, fence bigint NOT NULL DEFAULT 0,
            key_debug text)";
    foreign.run(&with_names(create, &names)).await;
    let backend = names.connect(&server.url()).await;
    assert_eq!(acquire_and_release(&backend, "job").await, 1);
    assert!(!is_recorded(&mut foreign, &names).await, "connecting changes nothing");
    for _ in 0..2 {
        PostgresBackend::setup_schema(&names.config(&server.url())).await.unwrap();
        assert_eq!(recorded(&mut foreign, &names).await, (1, 3));
    }
    assert_eq!(acquire_and_release(&backend, "job").await, 2, "who was connected goes on");
    assert_eq!(acquire_and_release(&names.connect(&server.url()).await, "job").await, 3);
    // This is how a client that knew all columns but no revisions left the tables.
    foreign.run(&format!("DROP TABLE {}_schema", names.locks)).await;
    assert_eq!(acquire_and_release(&names.connect(&server.url()).await, "job").await, 4);
    assert!(!is_recorded(&mut foreign, &names).await, "connecting changes nothing");
    PostgresBackend::setup_schema(&names.config(&server.url())).await.unwrap();
    assert_eq!(recorded(&mut foreign, &names).await, (1, 3));
}

#[tokio::test]
async fn tables_that_require_a_later_client_are_refused_and_left_unchanged() {
    schema::tables_that_require_a_later_client_are_refused_and_left_unchanged::<Names>().await;
}

#[tokio::test]
async fn later_tables_that_this_client_may_use_are_used_and_not_downgraded() {
    schema::later_tables_that_this_client_may_use_are_used_and_not_downgraded::<Names>().await;
}

#[tokio::test]
async fn an_invalid_version_is_an_error_and_nothing_is_changed() {
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
async fn releases_prune_old_rows_a_few_at_a_time_and_keep_the_fences() {
    const ROWS: &str = "
        INSERT INTO {counters} SELECT 'fence:past-' || i, i FROM generate_series(1, 250) AS i;
        INSERT INTO {locks}
        SELECT 'past-' || i, lpad(i::text, 22, '0'), 2, 1, lpad(i::text, 15, '0'), 'past-' || i
        FROM generate_series(1, 250) AS i;
        INSERT INTO {locks} SELECT 'ahead', lpad('a', 22, 'a'), 2, 1, lpad('7', 15, '0'), 'ahead';
        INSERT INTO {locks} SELECT 'foreign', lpad('f', 22, 'f'), 2, 1, 'seven', 'foreign';
        INSERT INTO {counters} VALUES ('fence:unreadable', 7);
        INSERT INTO {locks} SELECT 'unreadable', 'seven', 2, 1, lpad('7', 15, '0'), 'unreadable'";
    let (server, names) = (shared().await, Names::fresh());
    let backend = names.connect(&server.url()).await;
    let mut foreign = Foreign::open(&server.url()).await;
    granted(&backend, &ask("held", LONG)).await;
    foreign.run(&with_names(ROWS, &names)).await;
    let mut other = Foreign::open(&server.url()).await;
    other.run("BEGIN").await;
    other.run(&with_names("SELECT * FROM {locks} WHERE key = 'past-250' FOR UPDATE", &names)).await;
    let count = with_names("SELECT count(*) FROM {locks}", &names);
    let mut batches = 0_i64;
    // Five rows stay: the held one, the two that do not fit their counters, the one whose id cannot
    // be read, and the locked one.
    eventually("all else has gone", async || {
        for _ in 0..64 {
            acquire_and_release(&backend, "job").await;
        }
        batches += 1;
        let left = foreign.number(&count).await;
        assert!(254 - left <= 64 * batches, "too many at once: {left} are left");
        left == 5
    })
    .await;
    other.run("COMMIT").await;
    let fences =
        "SELECT count(*) FROM {counters} WHERE fence_key LIKE 'fence:past-%' AND fence > 0";
    assert_eq!(foreign.number(&with_names(fences, &names)).await, 250);
    let unreadable = "SELECT count(*) FROM {locks} WHERE lock_id = 'seven'";
    assert_eq!(foreign.number(&with_names(unreadable, &names)).await, 1);
    assert!(is_locked(&backend, "held").await);
    assert_eq!(acquire_and_release(&backend, "past-7").await, 8);
}
