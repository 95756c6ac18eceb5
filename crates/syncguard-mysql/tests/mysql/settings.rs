//! Settings of a server that would break a guarantee.

use syncguard_core::{
    ErrorKind, UnsafeSettings,
    backend::{AcquireOutcome, LockBackend, Severity},
};
use syncguard_mysql::MysqlBackend;
use syncguard_testkit::{
    operations::{LONG, ask, error_of, granted, is_contended, is_locked, lock_of, released},
    server::MariadbServer,
    sql::settings::{contend, findings},
};

use crate::{Foreign, NOW_MS, Name, config, connect, shared};

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

/// At this address, Linux connects to the same host, which no client can know.
#[tokio::test]
async fn a_connection_to_another_host_is_reported_unless_it_is_verified() {
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

/// Why a lax flush is refused: an answered grant is lost, and its fence is issued again.
#[tokio::test]
async fn a_lax_flush_loses_acknowledged_grants_and_a_strict_flush_does_not() {
    for (flush, kept) in [("0", false), ("1", true)] {
        // By default, the log is written every second.
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
            // The loss may begin at any write: if it begins with a release, the grant before it
            // still exists.
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

/// With these defaults of a server for its connections, a write would be invisible to others, and
/// the clock would be five hours ahead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_a_server_for_connections_are_overridden() {
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
    contend(&backend).await;
}

/// At the default isolation level, a transaction keeps reading the state from when it began.
#[tokio::test]
async fn a_snapshot_shows_a_held_key_as_free_and_the_backend_does_not() {
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
async fn a_clock_that_is_fixed_within_a_statement_is_reported_and_harmless() {
    let server = start(&[("sysdate-is-now", "1")]).await;
    let strict = config(&server.url()).unsafe_settings(UnsafeSettings::Refuse);
    let backend = MysqlBackend::connect(strict).await.unwrap();
    let expected = (Severity::Warning, "sysdate_is_now = ON".to_owned());
    assert_eq!(findings(&backend).await, [expected]);
    contend(&backend).await;
}

#[tokio::test]
async fn a_read_only_server_is_unavailable() {
    let server = MariadbServer::start().await.unwrap();
    let mut foreign = Foreign::open(&server.url()).await;
    // The user root may write despite the setting.
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
async fn a_full_server_and_wrong_credentials_are_classified() {
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
