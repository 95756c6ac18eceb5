//! Settings of a server that would break a promise.

use syncguard_core::{AcquireOutcome, ErrorKind, LockBackend, Severity, UnsafeSettings};
use syncguard_mysql::MysqlBackend;
use syncguard_testkit::{
    operations::{
        LONG, ask, error_of, extended, granted, is_contended, is_locked, lock_of, released,
    },
    server::MariadbServer,
};

use crate::{Foreign, NOW_MS, Name, config, connect, shared};

async fn findings(backend: &MysqlBackend) -> Vec<(Severity, String)> {
    let findings = backend.check().await.unwrap();
    findings.into_iter().map(|f| (f.severity, f.setting.into_owned())).collect()
}

async fn start(settings: &[(&str, &str)]) -> MariadbServer {
    let builder = settings
        .iter()
        .fold(MariadbServer::builder(), |builder, (name, value)| builder.setting(*name, *value));
    builder.start().await.unwrap()
}

#[tokio::test]
async fn a_safe_server_is_accepted_by_the_strict_policy() {
    let server = shared().await;
    let strict = Name::fresh().config(server.url()).unsafe_settings(UnsafeSettings::Refuse);
    assert_eq!(findings(&MysqlBackend::connect(strict).await.unwrap()).await, []);
}

/// By this address, Linux connects to the same host, and no client can know that.
#[tokio::test]
async fn the_way_to_another_host_is_reported_unless_it_is_verified() {
    let (server, name) = (MariadbServer::start().await.unwrap(), Name::fresh());
    let other = server.url().replace("127.0.0.1", "0.0.0.0");
    assert_ne!(other, server.url());
    for mode in ["PREFERRED", "DISABLED"] {
        let backend = name.connect(&format!("{other}?ssl-mode={mode}")).await;
        assert_eq!(
            findings(&backend).await,
            [(Severity::Warning, format!("ssl-mode = {mode}"))],
            "the server declines TLS, and is not verified"
        );
        let backend = name.connect(&format!("{}?ssl-mode={mode}", server.url())).await;
        assert_eq!(findings(&backend).await, []);
    }
}

#[tokio::test]
async fn a_server_that_does_not_write_through_is_refused() {
    for (setting, options) in [
        ("innodb_flush_log_at_trx_commit = 0", &[("innodb-flush-log-at-trx-commit", "0")][..]),
        ("innodb_flush_log_at_trx_commit = 2", &[("innodb-flush-log-at-trx-commit", "2")]),
        ("innodb_doublewrite = OFF", &[("innodb-doublewrite", "OFF")]),
        ("sync_binlog = 0", &[("log-bin", "binlog"), ("server-id", "1")]),
        (
            "binlog_format = STATEMENT",
            &[
                ("log-bin", "binlog"),
                ("server-id", "1"),
                ("sync-binlog", "1"),
                ("binlog-format", "STATEMENT"),
            ],
        ),
    ] {
        let server = start(options).await;
        let strict = config(&server.url()).unsafe_settings(UnsafeSettings::Refuse);
        let error = error_of(MysqlBackend::connect(strict).await, ErrorKind::Unsupported);
        assert!(error.to_string().contains(setting), "{error}");
        let lenient = connect(&server.url()).await;
        assert_eq!(findings(&lenient).await, [(Severity::Unsafe, setting.to_owned())]);
    }
}

/// Why a lax flush is refused: what was answered is gone, and the fence is given again.
#[tokio::test]
async fn a_lax_flush_loses_what_it_has_told_and_a_strict_one_does_not() {
    for (flush, kept) in [("0", false), ("1", true)] {
        // Otherwise the log is written out every second.
        let settings =
            [("innodb-flush-log-at-trx-commit", flush), ("innodb-flush-log-at-timeout", "2700")];
        let mut went_back = false;
        for _ in 0..3 {
            let server = start(&settings).await;
            let backend = connect(&server.url()).await;
            let mut last = 0;
            for _ in 0..20 {
                let request = ask("job", LONG);
                last = granted(&backend, &request).await.fence.number();
                assert!(released(&backend, &request).await);
            }
            server.kill().unwrap();
            server.restart().await.unwrap();
            // What is lost begins anywhere: with a release, the grant before it is still there.
            let outcome = connect(&server.url()).await.acquire(&ask("job", LONG)).await.unwrap();
            let next = match outcome {
                AcquireOutcome::Granted(grant) => grant.fence.number(),
                AcquireOutcome::Contended { holder } => {
                    holder.unwrap().fence.unwrap().next().unwrap().number()
                }
            };
            went_back |= next <= last;
        }
        assert_eq!(went_back, !kept, "innodb_flush_log_at_trx_commit = {flush}");
    }
}

/// Takes a lock from many sides until each of them has had it.
async fn fight(backend: &MysqlBackend) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let backend = backend.clone();
        tasks.spawn(async move {
            let mut had = 0;
            while had < 5 {
                let request = ask("fought over", LONG);
                let outcome = backend.acquire(&request).await.unwrap();
                if matches!(outcome, AcquireOutcome::Granted(_)) {
                    had += 1;
                    assert!(extended(&backend, &request).await);
                    assert!(released(&backend, &request).await);
                }
            }
        });
    }
    tasks.join_all().await;
}

/// With what a server gives to each connection unless it asks for something else, a write shows to
/// nobody, and a clock that is read is five hours ahead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_sets_for_connections_is_neutralised() {
    let server = start(&[
        ("autocommit", "0"),
        ("transaction-isolation", "SERIALIZABLE"),
        ("sql-mode", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,SIMULTANEOUS_ASSIGNMENT"),
        ("default-time-zone", "+05:00"),
        ("character-set-server", "latin1"),
        ("collation-server", "latin1_swedish_ci"),
        ("innodb-lock-wait-timeout", "1"),
        ("init-connect", "SET unique_checks = 0"),
    ])
    .await;
    let mut lax = Foreign::open(&server.url()).await;
    let setting = "SELECT CONCAT_WS(' ', @@autocommit, @@tx_isolation, @@GLOBAL.time_zone)";
    assert_eq!(lax.text(setting).await, "OFF SERIALIZABLE +05:00");
    let backend = connect(&server.url()).await;
    let request = ask("jöb 🔒", LONG);
    let grant = granted(&backend, &request).await;
    assert!(is_locked(&connect(&server.url()).await, "jöb 🔒").await, "it was committed");
    let left = grant.expires_at.unix_millis() - lax.number(NOW_MS).await;
    assert!((50_000..=60_000).contains(&left), "{left} ms are left");
    assert!(released(&backend, &request).await);
    fight(&backend).await;
}

/// The default isolation level, by which a transaction goes on reading what was there when it began.
#[tokio::test]
async fn a_snapshot_calls_a_key_free_that_is_held_and_the_backend_does_not() {
    let (server, name) = (shared().await, Name::fresh());
    let backend = name.connect(server.url()).await;
    let mut foreign = Foreign::open(server.url()).await;
    assert_eq!(foreign.text("SELECT @@tx_isolation").await, "REPEATABLE-READ");
    let held = name.fill("SELECT COUNT(*) FROM {locks} WHERE expires_at_ms > 0");
    foreign.run("BEGIN").await;
    assert_eq!(foreign.number(&held).await, 0);
    let request = ask("job", LONG);
    for _ in 0..20 {
        granted(&backend, &request).await;
        assert!(is_contended(&backend, "job").await && is_locked(&backend, "job").await);
        assert_eq!(foreign.number(&held).await, 0, "the snapshot is stale");
    }
    foreign.run("ROLLBACK").await;
    assert_eq!(foreign.number(&held).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_stands_still_in_a_statement_is_reported_and_harmless() {
    let server = start(&[("sysdate-is-now", "1")]).await;
    let strict = config(&server.url()).unsafe_settings(UnsafeSettings::Refuse);
    let backend = MysqlBackend::connect(strict).await.unwrap();
    let expected = (Severity::Warning, "sysdate_is_now = ON".to_owned());
    assert_eq!(findings(&backend).await, [expected]);
    fight(&backend).await;
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_unavailable() {
    let server = MariadbServer::start().await.unwrap();
    let mut foreign = Foreign::open(&server.url()).await;
    // The user root may write all the same.
    foreign.run("CREATE USER app; GRANT ALL ON test.* TO app").await;
    let backend = connect(&server.url().replace("root@", "app@")).await;
    let request = ask("job", LONG);
    granted(&backend, &request).await;
    foreign.run("SET GLOBAL read_only = 1").await;
    let refused = backend.extend(&lock_of(&request), request.ttl).await;
    let error = error_of(refused, ErrorKind::ServiceUnavailable);
    assert!(!error.may_have_applied() && error.is_retryable(), "{error:?}");
    assert!(is_locked(&backend, "job").await, "reading goes on");
    assert_eq!(findings(&backend).await, [(Severity::Unsafe, "read_only = ON".to_owned())]);
}

#[tokio::test]
async fn a_full_server_and_wrong_credentials_are_typed() {
    let server = start(&[("max-connections", "10")]).await;
    let mut foreign = Foreign::open(&server.url()).await;
    foreign
        .run("CREATE USER app; GRANT ALL ON test.* TO app; CREATE USER secret IDENTIFIED BY 's'")
        .await;
    let app = server.url().replace("root@", "app@");
    let mut taken = Vec::new();
    for _ in 0..9 {
        taken.push(Foreign::open(&app).await);
    }
    let error = error_of(MysqlBackend::connect(config(&app)).await, ErrorKind::ServiceUnavailable);
    assert!(!error.may_have_applied() && error.is_retryable(), "{error:?}");
    taken.clear();
    let url = server.url().replace("root@", "secret:wrong@");
    error_of(MysqlBackend::connect(config(&url)).await, ErrorKind::AuthFailed);
    let nowhere = format!("{}_not_there", server.url());
    error_of(MysqlBackend::connect(config(&nowhere)).await, ErrorKind::InvalidArgument);
    let unnamed = server.url().replace("/test", "");
    error_of(MysqlBackend::connect(config(&unnamed)).await, ErrorKind::InvalidArgument);
}
