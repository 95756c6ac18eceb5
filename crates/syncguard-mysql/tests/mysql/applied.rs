//! An error that reports "not applied" is right. Each error is raised by the statement that grants,
//! and by the statement after it, when the grant is stored.

use std::time::Duration;

use syncguard_core::{
    Error,
    backend::{AcquireRequest, LockBackend},
};
use syncguard_mysql::MysqlBackend;
use syncguard_testkit::{
    operations::{LONG, ask, eventually, granted, released},
    proxy::Proxy,
    server::MariadbServer,
};

use crate::{Foreign, config, connect};

/// Replaces the table with a view. Once a connection has stored a grant, every statement of that
/// connection that reads the view fails with the error number of the test, or sleeps if the number
/// is 0.
const FAULT_VIEW: &str = "
    RENAME TABLE syncguard_locks TO base;
    CREATE TABLE fault (number INT NOT NULL);
    CREATE TRIGGER stored AFTER UPDATE ON base FOR EACH ROW
        SET @stored = IF(NEW.lock_id IS NOT NULL, 1, @stored);
    CREATE FUNCTION passes() RETURNS INT NOT DETERMINISTIC READS SQL DATA BEGIN
        DECLARE chosen INT DEFAULT (SELECT MAX(number) FROM fault);
        IF @stored = 1 AND chosen = 0 THEN
            RETURN SLEEP(60) + 1;
        END IF;
        IF @stored = 1 THEN
            SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = chosen, MESSAGE_TEXT = 'planted';
        END IF;
        RETURN 1;
    END;
    CREATE VIEW syncguard_locks AS SELECT * FROM base WHERE passes() = 1";

/// The error numbers that the backend distinguishes, and some that it does not.
const NUMBERS: [u16; 33] = [
    1020, 1021, 1037, 1040, 1041, 1044, 1045, 1046, 1047, 1049, 1053, 1054, 1062, 1064, 1114, 1135,
    1142, 1146, 1180, 1203, 1205, 1206, 1213, 1226, 1290, 1317, 1665, 1792, 1836, 1927, 1969, 3024,
    3100,
];

async fn stored(foreign: &mut Foreign, request: &AcquireRequest) -> bool {
    let id = request.lock_id.as_str();
    foreign.number(&format!("SELECT COUNT(*) FROM base WHERE lock_id = '{id}'")).await == 1
}

async fn failed(backend: &MysqlBackend, request: &AcquireRequest) -> Error {
    backend.acquire(request).await.expect_err("the fault did not strike")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_after_the_commit_of_a_grant_never_reports_that_nothing_was_applied() {
    let server = MariadbServer::start().await.unwrap();
    // This creates the table.
    connect(&server.url()).await;
    let mut foreign = Foreign::open(&server.url()).await;
    // A statement that reads cannot violate a unique index, so 1062 cannot follow a grant.
    for number in NUMBERS.into_iter().filter(|number| *number != 1062) {
        let backend = connect(&server.url()).await;
        granted(&backend, &ask(&format!("warm {number}"), LONG)).await;
        foreign.run(FAULT_VIEW).await;
        foreign.run(&format!("INSERT INTO fault VALUES ({number})")).await;
        let request = ask(&format!("key {number}"), LONG);
        let error = failed(&backend, &request).await;
        assert!(stored(&mut foreign, &request).await, "{number} struck too early: {error:?}");
        assert!(error.may_have_applied(), "{number}: {error:?}");
        foreign.run("DROP VIEW syncguard_locks; DROP FUNCTION passes; DROP TRIGGER stored").await;
        foreign.run("DROP TABLE fault; RENAME TABLE base TO syncguard_locks").await;
    }
}

/// What ends a statement that sleeps after a grant.
#[derive(Clone, Copy, Debug)]
enum End {
    KillQuery,
    KillConnection,
    /// The statement timeout of the server.
    StatementTimeout,
    Proxy,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_whose_answer_is_lost_may_have_been_applied() {
    let server = MariadbServer::start().await.unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    connect(&server.url()).await;
    let mut foreign = Foreign::open(&server.url()).await;
    for end in [End::KillQuery, End::KillConnection, End::StatementTimeout, End::Proxy] {
        let limit = Duration::from_secs(if matches!(end, End::StatementTimeout) { 1 } else { 30 });
        let config = config(&server.url_through(proxy.address())).statement_timeout(limit);
        let backend = MysqlBackend::connect(config).await.unwrap();
        foreign.run(FAULT_VIEW).await;
        foreign.run("INSERT INTO fault VALUES (0)").await;
        let request = ask(&format!("key {end:?}"), LONG);
        let asking = tokio::spawn({
            let (backend, request) = (backend.clone(), request.clone());
            async move { failed(&backend, &request).await }
        });
        eventually("the grant is stored", async || stored(&mut foreign, &request).await).await;
        let asleep = "SELECT ID FROM information_schema.PROCESSLIST WHERE STATE = 'User sleep'";
        let count = format!("SELECT COUNT(*) FROM ({asleep}) sleeping");
        let sleeps = async || foreign.number(&count).await == 1;
        match end {
            End::KillQuery => {
                eventually("its session sleeps", sleeps).await;
                let id = foreign.number(asleep).await;
                foreign.run(&format!("KILL QUERY {id}")).await;
            }
            End::KillConnection => {
                eventually("its session sleeps", sleeps).await;
                assert_eq!(foreign.kill(asleep).await, 1);
            }
            End::StatementTimeout => {}
            End::Proxy => assert!(proxy.cut_all().await > 0),
        }
        let error = asking.await.unwrap();
        assert!(error.may_have_applied(), "{end:?}: {error:?}");
        foreign.kill(asleep).await;
        foreign.run("DROP VIEW syncguard_locks; DROP FUNCTION passes; DROP TRIGGER stored").await;
        foreign.run("DROP TABLE fault; RENAME TABLE base TO syncguard_locks").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_the_granting_statement_that_reports_nothing_applied_leaves_nothing() {
    let server = MariadbServer::start().await.unwrap();
    let backend = connect(&server.url()).await;
    let mut foreign = Foreign::open(&server.url()).await;
    let mut unapplied = 0;
    for number in NUMBERS {
        foreign.run("DROP TRIGGER IF EXISTS planted").await;
        // The key is locked before, because inserting the row of a new key would be a change.
        let before = ask(&format!("key {number}"), LONG);
        granted(&backend, &before).await;
        assert!(released(&backend, &before).await);
        let trigger = format!(
            "CREATE TRIGGER planted AFTER UPDATE ON syncguard_locks FOR EACH ROW
             SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT = 'planted'"
        );
        foreign.run(&trigger).await;
        let request = ask(&format!("key {number}"), LONG);
        let error = failed(&backend, &request).await;
        let id = request.lock_id.as_str();
        let rows = format!("SELECT COUNT(*) FROM syncguard_locks WHERE lock_id = '{id}'");
        let stored = foreign.number(&rows).await == 1;
        assert!(error.may_have_applied() || !stored, "{number}: {error:?}");
        unapplied += u32::from(!error.may_have_applied());
    }
    assert!(unapplied > 20, "only {unapplied} were called unapplied");
}
