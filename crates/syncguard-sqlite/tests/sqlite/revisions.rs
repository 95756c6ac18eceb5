//! Files of older and newer clients, and the pruning of obsolete rows.

use syncguard_core::{
    ErrorKind, LockId,
    backend::{AcquireOutcome, ExtendOutcome, LockBackend, LockRef, Mode},
};
use syncguard_sqlite::{SqliteBackend, SqliteConfig};

use crate::{Scratch, acquire_and_release, key, request, ttl};

const REVISION_1: &str = include_str!("revision_1.sql");

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_revision_1_is_upgraded_by_one_of_many_and_keeps_its_locks() {
    let scratch = Scratch::new();
    let mut foreign = scratch.foreign().await;
    foreign.run(REVISION_1).await;
    let mut opening = tokio::task::JoinSet::new();
    for _ in 0..8 {
        opening.spawn(SqliteBackend::connect(SqliteConfig::new(scratch.path())));
    }
    for backend in opening.join_all().await {
        let held = backend.unwrap().acquire(&request("held")).await.unwrap();
        assert!(matches!(held, AcquireOutcome::Contended { holder: Some(_) }));
    }
    assert_eq!(foreign.number("SELECT revision FROM syncguard_schema").await, 3);
    let version = foreign.number("SELECT version FROM syncguard_schema").await;
    assert_eq!(version, 1, "clients of revision 1 refuse a greater one");
    let backend = scratch.open().await;
    assert_eq!(acquire_and_release(&backend, "released").await, 42);
    assert_eq!(acquire_and_release(&backend, "expired").await, 4);
    let id: LockId = "AAAAAAAAAAAAAAAAAAAAAA".parse().unwrap();
    let extended = backend.extend(&LockRef::new(id, key("held")), ttl(1_000)).await.unwrap();
    assert!(matches!(extended, ExtendOutcome::Extended { .. }));
    let shared = request("released").with_mode(Mode::SHARED);
    assert_eq!(crate::granted(&backend, &shared).await.fence.number(), 43);
}

#[tokio::test]
async fn an_upgraded_file_has_the_tables_of_a_new_one() {
    const TABLES: &str = "SELECT name || ' ' || group_concat(quote(column), ', ') FROM (
            SELECT tables.name AS name, columns.name || columns.type || columns.\"notnull\"
                || columns.pk AS column
            FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
            ORDER BY tables.name, columns.cid
        ) GROUP BY name
        UNION ALL SELECT sql FROM sqlite_schema WHERE type = 'index' AND sql NOT NULL ORDER BY 1";
    let (new, old) = (Scratch::new(), Scratch::new());
    old.foreign().await.run(REVISION_1).await;
    let mut tables = Vec::new();
    for scratch in [new, old] {
        scratch.open().await;
        tables.push(scratch.foreign().await.texts(TABLES).await);
    }
    assert!(tables[0].len() >= 5 && tables[0] == tables[1], "{tables:#?}");
}

#[tokio::test]
async fn a_file_of_this_revision_serves_clients_of_revision_1() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    assert_eq!(acquire_and_release(&backend, "key").await, 1);
    let mut earlier = scratch.foreign().await;
    // The statements of older clients that access what has changed.
    assert_eq!(earlier.number("SELECT version FROM syncguard_schema WHERE id = 1").await, 1);
    earlier
        .run("INSERT INTO syncguard_schema (id, version) VALUES (1, 1) ON CONFLICT (id) DO NOTHING")
        .await;
    assert_eq!(acquire_and_release(&backend, "key").await, 2);
}

#[tokio::test]
async fn a_file_that_requires_a_newer_client_is_refused_and_unchanged() {
    let scratch = Scratch::new();
    scratch.open().await;
    let mut foreign = scratch.foreign().await;
    foreign.run("UPDATE syncguard_schema SET version = 4, revision = 5").await;
    let error = SqliteBackend::connect(SqliteConfig::new(scratch.path())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(!error.may_have_applied());
    let text = error.to_string();
    for part in ["locks.db", "version 4", "version 3"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(foreign.number("SELECT revision FROM syncguard_schema").await, 5);
}

#[tokio::test]
async fn a_newer_file_that_this_client_may_use_is_not_downgraded() {
    let scratch = Scratch::new();
    scratch.open().await;
    let mut foreign = scratch.foreign().await;
    foreign.run("UPDATE syncguard_schema SET version = 2, revision = 9").await;
    foreign.run("ALTER TABLE syncguard_locks ADD COLUMN future TEXT").await;
    assert_eq!(acquire_and_release(&scratch.open().await, "key").await, 1);
    assert_eq!(foreign.number("SELECT revision FROM syncguard_schema").await, 9);
}

#[tokio::test]
async fn an_invalid_version_is_an_error_and_is_not_upgraded() {
    for version in ["version = 0", "version = -1", "revision = 0", "version = 2, revision = 1"] {
        let scratch = Scratch::new();
        scratch.open().await;
        let mut foreign = scratch.foreign().await;
        let sql = format!("UPDATE syncguard_schema SET {version}");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut foreign.0).await.unwrap();
        let error = SqliteBackend::connect(SqliteConfig::new(scratch.path())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{version}: {error}");
        assert!(!error.may_have_applied(), "{version}");
    }
}

#[tokio::test]
async fn obsolete_rows_are_pruned_a_few_at_a_time_by_releases_and_fences_stay() {
    const PLANT: &str = "
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250)
        INSERT INTO syncguard_locks
        SELECT 'past-' || i, i, printf('%020dAA', i), NULL, 1, 2 FROM n;
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250)
        INSERT INTO syncguard_abandoned SELECT printf('%020dAA', i), 1 FROM n";
    const INDEXED: &str = "SELECT count(*) FROM syncguard_locks WHERE lock_id IS NOT NULL";
    const ABANDONED: &str = "SELECT count(*) FROM syncguard_abandoned";
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let mut foreign = scratch.foreign().await;
    let held = request("held");
    crate::granted(&backend, &held).await;
    foreign.run(PLANT).await;
    let (mut rows, mut ids) = (foreign.number(INDEXED).await, foreign.number(ABANDONED).await);
    assert_eq!((rows, ids), (251, 250));
    let mut passes = 0;
    while (rows, ids) != (1, 0) {
        acquire_and_release(&backend, "key").await;
        passes += 1;
        let left = (foreign.number(INDEXED).await, foreign.number(ABANDONED).await);
        assert!(rows - left.0 <= 64 && ids - left.1 <= 64, "too many at once");
        (rows, ids) = left;
        assert!(passes < 64 * 40, "{rows} rows and {ids} ids are left");
    }
    assert!(passes >= 64 * 4, "it prunes too often");
    let fences = "SELECT count(*) FROM syncguard_locks WHERE key LIKE 'past-%' AND fence > 0";
    assert_eq!(foreign.number(fences).await, 250);
    assert!(backend.is_locked(&held.key).await.unwrap());
    assert_eq!(acquire_and_release(&backend, "past-250").await, 251);
}

/// Such a grant can still be extended. Its expiry is set to the current time before each release,
/// because the grace would end otherwise.
#[tokio::test]
async fn pruning_keeps_the_row_of_a_grant_that_is_in_its_grace() {
    const PLANT: &str = "INSERT INTO syncguard_locks VALUES
        ('past', 1, 'zzzzzzzzzzzzzzzzzzzzyA', NULL, 1, 2),
        ('in grace', 1, 'zzzzzzzzzzzzzzzzzzzzzA', NULL, 1, 2)";
    const TO_GRACE: &str = "UPDATE syncguard_locks
        SET expires_at_ms = CAST(round(unixepoch('subsec') * 1000) AS INTEGER) WHERE key = 'in grace'";
    const EXPIRED: &str = "SELECT expires_at_ms FROM syncguard_locks WHERE key = 'in grace'";
    const PAST_IS_LEFT: &str = "SELECT lock_id NOT NULL FROM syncguard_locks WHERE key = 'past'";
    const IN_GRACE_IS_LEFT: &str =
        "SELECT lock_id NOT NULL FROM syncguard_locks WHERE key = 'in grace'";
    const NOW_MS: &str = "SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER)";
    const GRACE_MS: i64 = 1_000;
    for _ in 0..20 {
        let scratch = Scratch::in_memory();
        let backend = scratch.open().await;
        let mut foreign = scratch.foreign().await;
        foreign.run(PLANT).await;
        let (mut passes, mut expired) = (0, 0);
        while foreign.number(PAST_IS_LEFT).await == 1 {
            foreign.run(TO_GRACE).await;
            expired = foreign.number(EXPIRED).await;
            acquire_and_release(&backend, "key").await;
            passes += 1;
            assert!(passes <= 128, "nothing is pruned");
        }
        let now = foreign.number(NOW_MS).await;
        if foreign.number(IN_GRACE_IS_LEFT).await == 1 {
            return;
        }
        // On a busy machine the grace may be over by then.
        assert!(now >= expired + GRACE_MS, "pruned within the grace");
    }
    panic!("the pruning was late each time");
}
