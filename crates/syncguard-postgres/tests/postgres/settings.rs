//! Settings of a server, a database or a role that would break a guarantee.

use syncguard_core::UnsafeSettings;
use syncguard_core::{
    ErrorKind,
    backend::{LockBackend, Severity},
};
use syncguard_postgres::{PostgresBackend, PostgresConfig};
use syncguard_testkit::{
    operations::{LONG, ask, error_of, eventually, granted, is_locked, lock_of},
    server::PostgresServer,
    sql::settings::{contend, findings},
};

use crate::{Foreign, Names, config, connect, shared};

fn warnings(settings: [&str; 2]) -> Vec<(Severity, String)> {
    settings.map(|setting| (Severity::Warning, setting.to_owned())).into()
}

#[tokio::test]
async fn a_safe_server_is_accepted_by_the_strict_policy() {
    let server = shared().await;
    let strict = Names::fresh().config(&server.url()).unsafe_settings(UnsafeSettings::Refuse);
    assert_eq!(findings(&PostgresBackend::connect(strict).await.unwrap()).await, []);
}

/// At this address, Linux connects to the same host, which no client can know.
#[tokio::test]
async fn a_connection_to_another_host_is_reported_unless_it_is_verified() {
    let (server, names) = (PostgresServer::start().await.unwrap(), Names::fresh());
    let url = server.url();
    let other = url.replace("127.0.0.1", "0.0.0.0");
    assert_ne!(other, url);
    let [preferred, disabled] = ["prefer", "disable"].map(|mode| format!("{other}?sslmode={mode}"));
    let warning = |mode: &str| (Severity::Warning, format!("sslmode = {mode}"));
    for (url, to_listen, expected) in [
        (&url, &url, vec![]),
        (&preferred, &preferred, vec![warning("prefer")]),
        (&preferred, &disabled, vec![warning("prefer"), warning("disable")]),
        (&url, &disabled, vec![warning("disable")]),
    ] {
        let backend = PostgresBackend::connect(names.config(url).listen_url(to_listen).unwrap())
            .await
            .unwrap();
        assert_eq!(findings(&backend).await, expected, "to listen at {to_listen}");
    }
}

const LAX_ROLE: &str = "CREATE ROLE lax LOGIN SUPERUSER;
    ALTER ROLE lax SET default_transaction_isolation = 'repeatable read';
    ALTER ROLE lax SET synchronous_commit = off";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_a_role_are_reported_and_overridden() {
    let server = PostgresServer::builder().setting("wal_writer_delay", "10000ms");
    let server = server.start().await.unwrap();
    let mut foreign = Foreign::open(&server.url()).await;
    foreign.run(LAX_ROLE).await;
    let url = server.url().replace("postgres@", "lax@");
    let mut lax = Foreign::open(&url).await;
    assert_eq!(lax.text("SHOW default_transaction_isolation").await, "repeatable read");

    for number in 0..3 {
        let backend = lax_backend(&url, number).await;
        let expected =
            ["default_transaction_isolation = repeatable read", "synchronous_commit = off"];
        assert_eq!(findings(&backend).await, warnings(expected));
        contend(&backend).await;
    }

    // An answered grant is on disk, although the role does not wait for the disk.
    for number in 0..3 {
        let request = ask(&format!("job {number}"), LONG);
        granted(&lax_backend(&url, number).await, &request).await;
        server.kill().unwrap();
        server.restart().await.unwrap();
        let after = connect(&url).await;
        assert!(is_locked(&after, request.key.as_str()).await, "{number}");
    }
}

/// Connects in one of three ways.
async fn lax_backend(url: &str, number: usize) -> PostgresBackend {
    let config = match number {
        0 => config(url),
        1 => PostgresConfig::from_pool(sqlx::PgPool::connect(url).await.unwrap()),
        _ => config(url).pgbouncer(),
    };
    PostgresBackend::connect(config).await.unwrap()
}

#[tokio::test]
async fn without_the_override_a_lax_role_loses_an_acknowledged_write() {
    let server = PostgresServer::builder().setting("wal_writer_delay", "10000ms");
    let server = server.start().await.unwrap();
    Foreign::open(&server.url()).await.run(&format!("{LAX_ROLE}; CREATE TABLE t (n int)")).await;
    let url = server.url().replace("postgres@", "lax@");
    Foreign::open(&url).await.run("INSERT INTO t VALUES (1)").await;
    server.kill().unwrap();
    server.restart().await.unwrap();
    let kept = Foreign::open(&server.url()).await.number("SELECT count(*) FROM t").await;
    assert_eq!(kept, 0, "the crash took it back");
}

#[tokio::test]
async fn a_server_that_does_not_write_through_is_refused() {
    for setting in ["fsync", "full_page_writes"] {
        let server = PostgresServer::builder().setting(setting, "off").start().await.unwrap();
        let strict = config(&server.url()).unsafe_settings(UnsafeSettings::Refuse);
        let error = error_of(PostgresBackend::connect(strict).await, ErrorKind::Unsupported);
        assert!(error.to_string().contains(&format!("{setting} = off")), "{error}");
        let lenient = connect(&server.url()).await;
        assert_eq!(findings(&lenient).await, [(Severity::Unsafe, format!("{setting} = off"))]);
    }
}

#[tokio::test]
async fn a_read_only_server_is_unavailable() {
    let server = PostgresServer::start().await.unwrap();
    let backend = connect(&server.url()).await;
    let request = ask("job", LONG);
    granted(&backend, &request).await;
    let mut foreign = Foreign::open(&server.url()).await;
    foreign.run("ALTER SYSTEM SET default_transaction_read_only = on").await;
    foreign.run("SELECT pg_reload_conf()").await;
    eventually("writes are refused", async || {
        let refused = backend.extend(&lock_of(&request), request.ttl).await;
        refused.is_err_and(|error| {
            assert_eq!(error.kind(), ErrorKind::ServiceUnavailable, "{error:?}");
            !error.may_have_applied() && error.is_retryable()
        })
    })
    .await;
    assert!(is_locked(&backend, "job").await, "reading goes on");
}

#[tokio::test]
async fn a_full_server_and_wrong_credentials_are_classified() {
    let server = PostgresServer::builder().setting("max_connections", "5");
    let server = server.setting("superuser_reserved_connections", "0").start().await.unwrap();
    let mut taken = Vec::new();
    for _ in 0..5 {
        taken.push(Foreign::open(&server.url()).await);
    }
    let error = error_of(connect_error(&server.url()).await, ErrorKind::ServiceUnavailable);
    assert!(!error.may_have_applied() && error.is_retryable(), "{error:?}");
    taken.clear();
    let nobody = server.url().replace("postgres@", "nobody@");
    error_of(connect_error(&nobody).await, ErrorKind::AuthFailed);
    let nowhere = format!("{}_not_there", server.url());
    error_of(connect_error(&nowhere).await, ErrorKind::InvalidArgument);
}

async fn connect_error(url: &str) -> Result<PostgresBackend, syncguard_core::Error> {
    PostgresBackend::connect(config(url)).await
}
