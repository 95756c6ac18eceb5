//! Tables of earlier and later clients, and the removal of rows that are no longer needed.

use sqlx::Row;
use syncguard_core::{ErrorKind, UnsafeSettings, backend::LockBackend};
use syncguard_mysql::MysqlBackend;
use syncguard_testkit::{
    operations::{LONG, ask, error_of, eventually, granted, is_locked},
    server::MariadbServer,
    sql::schema::{self, acquire_and_release, recorded},
};

use crate::{Foreign, Name, config, shared};

async fn is_recorded(foreign: &mut Foreign, name: &Name) -> bool {
    let tables =
        "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_NAME = '{locks}_schema'";
    foreign.number(&name.fill(tables)).await == 1
}

#[tokio::test]
async fn a_table_without_a_recorded_revision_is_of_revision_1_until_the_schema_step() {
    let (server, name) = (shared().await, Name::fresh());
    let mut foreign = Foreign::open(server.url()).await;
    let backend = name.connect(server.url()).await;
    assert_eq!(recorded(&mut foreign, &name).await, (1, 3));
    foreign.run(&name.fill("DROP TABLE {locks}_schema")).await;
    assert_eq!(acquire_and_release(&name.connect(server.url()).await, "job").await, 1);
    assert!(!is_recorded(&mut foreign, &name).await, "connecting changes nothing");
    for _ in 0..2 {
        MysqlBackend::setup_schema(&name.config(server.url())).await.unwrap();
        assert_eq!(recorded(&mut foreign, &name).await, (1, 3));
    }
    assert_eq!(acquire_and_release(&backend, "job").await, 2, "who was connected goes on");
    assert_eq!(acquire_and_release(&name.connect(server.url()).await, "job").await, 3);
    // This is how an interrupted schema step leaves the table.
    foreign.run(&name.fill("DELETE FROM {locks}_schema")).await;
    assert_eq!(acquire_and_release(&name.connect(server.url()).await, "job").await, 4);
    MysqlBackend::setup_schema(&name.config(server.url())).await.unwrap();
    assert_eq!(recorded(&mut foreign, &name).await, (1, 3));
}

#[tokio::test]
async fn a_table_that_requires_a_later_client_is_refused_and_left_unchanged() {
    schema::tables_that_require_a_later_client_are_refused_and_left_unchanged::<Name>().await;
}

#[tokio::test]
async fn a_later_table_that_this_client_may_use_is_used_and_not_downgraded() {
    schema::later_tables_that_this_client_may_use_are_used_and_not_downgraded::<Name>().await;
}

#[tokio::test]
async fn an_invalid_version_is_an_error_and_nothing_is_changed() {
    let (server, name) = (shared().await, Name::fresh());
    name.connect(server.url()).await;
    let mut foreign = Foreign::open(server.url()).await;
    for nonsense in [(0, 1), (-1, 1), (2, 1), (1, 0), (1, -1)] {
        let (version, revision) = nonsense;
        let change =
            format!("UPDATE {{locks}}_schema SET version = {version}, revision = {revision}");
        foreign.run(&name.fill(&change)).await;
        let connected = MysqlBackend::connect(name.config(server.url())).await;
        assert!(!error_of(connected, ErrorKind::Internal).may_have_applied(), "{nonsense:?}");
        error_of(MysqlBackend::setup_schema(&name.config(server.url())).await, ErrorKind::Internal);
        assert_eq!(recorded(&mut foreign, &name).await, nonsense);
    }
}

/// Privileges for the lock table alone are enough, except for reading its revision, which `check`
/// reports.
#[tokio::test]
async fn a_user_without_the_privilege_to_create_tables_or_to_read_the_revision_can_use_locks() {
    let (server, name) = (shared().await, Name::fresh());
    let mut foreign = Foreign::open(server.url()).await;
    let (database, user) = (format!("database_{}", name.0), format!("user_{}", name.0));
    foreign.run(&format!("CREATE DATABASE {database}; CREATE USER {user}")).await;
    let root = server.url().replace("/test", &format!("/{database}"));
    let theirs = config(&root.replace("root@", &format!("{user}@")));
    MysqlBackend::connect(config(&root)).await.unwrap();
    let schema = format!("{database}.syncguard_locks_schema");
    let rights = "SELECT, INSERT, UPDATE, DELETE";
    foreign.run(&format!("GRANT {rights} ON {database}.syncguard_locks TO {user}")).await;
    let unreadable = async || {
        let strict = theirs.clone().unsafe_settings(UnsafeSettings::Refuse);
        let findings = MysqlBackend::connect(strict).await.unwrap().check().await.unwrap();
        findings.iter().any(|finding| finding.setting.contains("revision"))
    };
    assert!(unreadable().await, "there is one that the user may not read");
    foreign.run(&format!("DROP TABLE {schema}")).await;
    assert!(unreadable().await, "to this user it is the same");
    assert_eq!(
        acquire_and_release(&MysqlBackend::connect(theirs.clone()).await.unwrap(), "job").await,
        1
    );
    let error = error_of(MysqlBackend::setup_schema(&theirs).await, ErrorKind::AuthFailed);
    assert!(error.to_string().contains("schema_sql"), "{error}");
    MysqlBackend::setup_schema(&config(&root)).await.unwrap();
    foreign.run(&format!("GRANT SELECT ON {schema} TO {user}")).await;
    assert!(!unreadable().await);
    assert_eq!(
        acquire_and_release(&MysqlBackend::connect(theirs.clone()).await.unwrap(), "job").await,
        2
    );
    foreign.run(&format!("UPDATE {schema} SET version = 4, revision = 4")).await;
    error_of(MysqlBackend::connect(theirs).await, ErrorKind::Unsupported);
    foreign.run(&format!("DROP USER {user}; DROP DATABASE {database}")).await;
}

/// Such a server rejects every write at READ COMMITTED. All writes are in the log.
#[tokio::test]
async fn a_server_with_a_statement_log_records_the_revision_and_connecting_only_reads() {
    let log = [("log-bin", "binlog"), ("server-id", "1"), ("binlog-format", "STATEMENT")];
    let builder =
        log.iter().fold(MariadbServer::builder(), |b, (name, value)| b.setting(*name, *value));
    let (server, name) = (builder.start().await.unwrap(), Name::fresh());
    let backend = name.connect(&server.url()).await;
    error_of(backend.acquire(&ask("job", LONG)).await, ErrorKind::Internal);
    let mut foreign = Foreign::open(&server.url()).await;
    for old in [false, true] {
        if old {
            foreign.run(&name.fill("DROP TABLE {locks}_schema")).await;
        } else {
            assert_eq!(recorded(&mut foreign, &name).await, (1, 3));
        }
        let written = foreign.row("SHOW MASTER STATUS").await.get::<u64, _>("Position");
        name.connect(&server.url()).await.check().await.unwrap();
        MysqlBackend::connect(name.config(&server.url()).existing_table_only()).await.unwrap();
        let then = foreign.row("SHOW MASTER STATUS").await.get::<u64, _>("Position");
        assert_eq!(then, written, "connecting has written");
        MysqlBackend::setup_schema(&name.config(&server.url())).await.unwrap();
        assert_eq!(recorded(&mut foreign, &name).await, (1, 3));
        let then = foreign.row("SHOW MASTER STATUS").await.get::<u64, _>("Position");
        assert_eq!(then > written, old, "the schema step is in the log");
    }
}

#[tokio::test]
async fn releases_prune_old_rows_a_few_at_a_time_and_keep_the_fences() {
    const NUMBERS: &str = "WITH RECURSIVE numbers AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM numbers WHERE n < 400)";
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
    let unreadable =
        format!("INSERT INTO {{locks}} {COLUMNS} VALUES ('unreadable', 7, 'seven', 1, 2)");
    foreign.run(&name.fill(&unreadable)).await;
    let mut other = Foreign::open(server.url()).await;
    other.run("BEGIN").await;
    let locked = "SELECT * FROM {locks} WHERE lock_key = 'past-400' FOR UPDATE";
    other.run(&name.fill(locked)).await;
    let count = name.fill("SELECT COUNT(*) FROM {locks} WHERE lock_id IS NOT NULL");
    let (mut left, mut rounds) = (foreign.number(&count).await, 0);
    // Three rows stay: the held one, the one whose id cannot be read, and the locked one.
    while left > 3 {
        for _ in 0..128 {
            acquire_and_release(&backend, "job").await;
        }
        rounds += 1;
        let before = left;
        eventually("some have gone", async || {
            left = foreign.number(&count).await;
            left < before
        })
        .await;
        // There are two prunings, each of 64 grants and 64 tombstones.
        assert!(802 - left <= 256 * rounds, "too many at once: {left} are left");
    }
    other.run("COMMIT").await;
    let fences = "SELECT COUNT(*) FROM {locks} WHERE lock_key LIKE 'past-%' AND fence > 0";
    assert_eq!(foreign.number(&name.fill(fences)).await, 400);
    let unreadable = "SELECT COUNT(*) FROM {locks} WHERE lock_id = 'seven'";
    assert_eq!(foreign.number(&name.fill(unreadable)).await, 1);
    assert!(is_locked(&backend, "held").await);
    assert_eq!(acquire_and_release(&backend, "past-7").await, 8);
}
