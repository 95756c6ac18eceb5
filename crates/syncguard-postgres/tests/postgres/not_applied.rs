//! Errors of an acquire. An error that reports that nothing was applied must be right, whatever
//! happened, and at any time.

use std::{sync::Arc, time::Duration};

use syncguard_core::{
    Error, ErrorKind,
    backend::{AcquireRequest, LockBackend},
};
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::{
    operations::{LONG, ask, eventually, granted, is_locked},
    proxy::{Flow, Proxy, Times, containing},
    server::PostgresServer,
};

use crate::{
    Foreign, Names,
    queueing::{blocked, hold_counter},
    shared,
};

/// The codes that the backend distinguishes, one of each class, and the kind of each.
const STATES: &[(&str, ErrorKind)] = &[
    ("08006", ErrorKind::ServiceUnavailable),
    ("08P01", ErrorKind::ServiceUnavailable),
    ("22003", ErrorKind::Internal),
    ("22021", ErrorKind::InvalidArgument),
    ("22P05", ErrorKind::InvalidArgument),
    ("23502", ErrorKind::Internal),
    ("23505", ErrorKind::Aborted),
    ("23514", ErrorKind::Internal),
    ("25001", ErrorKind::ServiceUnavailable),
    ("25006", ErrorKind::ServiceUnavailable),
    ("25P02", ErrorKind::ServiceUnavailable),
    ("26000", ErrorKind::Internal),
    ("28000", ErrorKind::AuthFailed),
    ("3D000", ErrorKind::InvalidArgument),
    ("40001", ErrorKind::ServiceUnavailable),
    ("40P01", ErrorKind::ServiceUnavailable),
    ("42501", ErrorKind::AuthFailed),
    ("42703", ErrorKind::Internal),
    ("42P01", ErrorKind::Internal),
    ("42P05", ErrorKind::Internal),
    ("42P10", ErrorKind::Internal),
    ("53100", ErrorKind::ServiceUnavailable),
    ("53200", ErrorKind::ServiceUnavailable),
    ("53300", ErrorKind::ServiceUnavailable),
    ("54000", ErrorKind::ServiceUnavailable),
    ("55P03", ErrorKind::ServiceUnavailable),
    ("57014", ErrorKind::NetworkTimeout),
    ("57P01", ErrorKind::ServiceUnavailable),
    ("57P03", ErrorKind::ServiceUnavailable),
    ("58030", ErrorKind::ServiceUnavailable),
    ("XX000", ErrorKind::Internal),
];

/// Fails after a grant was written: at once, or when it is committed, which is after the last row
/// of the answer was sent. The sequence proves that the fault happened, because it is not rolled
/// back.
const FAULTS: &str = "CREATE SEQUENCE {locks}_faults;
    CREATE TABLE {locks}_fault (code text);
    CREATE FUNCTION {locks}_fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM nextval('{locks}_faults');
        IF (SELECT code FROM {locks}_fault) = 'FATAL' THEN
            PERFORM pg_terminate_backend(pg_backend_pid());
            PERFORM pg_sleep(1);
        END IF;
        RAISE EXCEPTION USING ERRCODE = (SELECT code FROM {locks}_fault);
    END $$;
    CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON {locks} {when}
        FOR EACH ROW EXECUTE FUNCTION {locks}_fail()";

const AT_ONCE: &str = "NOT DEFERRABLE";
const AT_COMMIT: &str = "DEFERRABLE INITIALLY DEFERRED";

struct Scene {
    server: Arc<PostgresServer>,
    proxy: Proxy,
    names: Names,
    foreign: Foreign,
}

impl Scene {
    async fn set() -> Self {
        let server = shared().await;
        let proxy = Proxy::start(server.address()).await.unwrap();
        let foreign = Foreign::open(&server.url()).await;
        Self { server, proxy, names: Names::fresh(), foreign }
    }

    /// A backend that goes through the proxy and has prepared its acquire.
    async fn backend(&self) -> PostgresBackend {
        let url = self.server.url_through(self.proxy.address());
        let config = self.names.config(&url).statement_timeout(Duration::from_secs(2));
        let backend = PostgresBackend::connect(config).await.unwrap();
        granted(&backend, &ask("warm-up", LONG)).await;
        backend
    }

    /// Returns whether a grant is stored, over a connection that bypasses the proxy.
    async fn is_stored(&mut self, request: &AcquireRequest) -> bool {
        let (locks, id) = (&self.names.locks, request.lock_id.as_str());
        let sql = format!("SELECT count(*) FROM {locks} WHERE lock_id = '{id}'");
        self.foreign.number(&sql).await > 0
    }

    async fn run(&mut self, sql: &str) {
        self.foreign.run(&sql.replace("{locks}", &self.names.locks)).await;
    }

    /// Calls this function of the server for each session of the backend, and returns their number.
    async fn signal(&mut self, function: &str) -> i64 {
        let sql = format!(
            "SELECT count({function}(pid)) FROM pg_stat_activity
             WHERE pid <> pg_backend_pid() AND query LIKE '%{}%'",
            self.names.locks
        );
        self.foreign.number(&sql).await
    }
}

async fn acquire(backend: &PostgresBackend, request: &AcquireRequest) -> Error {
    backend.acquire(request).await.unwrap_err()
}

#[tokio::test]
async fn a_grant_that_the_server_rejects_after_writing_it_is_not_stored() {
    for when in [AT_ONCE, AT_COMMIT] {
        let mut scene = Scene::set().await;
        let config = scene.names.config(&scene.server.url()).max_connections(2);
        let backends = [
            PostgresBackend::connect(config.clone()).await,
            PostgresBackend::connect(config.pgbouncer()).await,
        ];
        scene.run(&FAULTS.replace("{when}", when)).await;
        let faults = format!("SELECT last_value FROM {}_faults", scene.names.locks);
        let mut faulted = 0;
        for backend in backends.map(Result::unwrap) {
            for (state, kind) in STATES {
                let fault = format!(
                    "TRUNCATE {{locks}}_fault; INSERT INTO {{locks}}_fault VALUES ('{state}')"
                );
                scene.run(&fault).await;
                let request = ask(state, LONG);
                let error = acquire(&backend, &request).await;
                let reached = scene.foreign.number(&faults).await;
                assert!(reached > faulted, "{when} {state}: the fault did not happen");
                faulted = reached;
                assert_eq!(error.kind(), *kind, "{when} {state}: {error}");
                assert!(!error.may_have_applied(), "{when} {state}: {error:?}");
                assert!(!scene.is_stored(&request).await, "{when} {state}");
            }
            scene.run("TRUNCATE {locks}_fault; INSERT INTO {locks}_fault VALUES ('FATAL')").await;
            let request = ask("fatal", LONG);
            let error = acquire(&backend, &request).await;
            assert!(
                error.may_have_applied(),
                "{when}: a lost connection proves nothing: {error:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_acquire_whose_answer_is_cut_off_may_have_been_applied_and_was() {
    let mut scene = Scene::set().await;
    let backend = scene.backend().await;
    let request = ask("cut off", LONG);
    scene.proxy.cut_after(containing("cut off"), Times::Next(1));
    let error = acquire(&backend, &request).await;
    assert!(scene.is_stored(&request).await && error.may_have_applied(), "{error:?}");
}

#[tokio::test]
async fn an_acquire_whose_session_is_ended_after_the_commit_may_have_been_applied_and_was() {
    for function in ["pg_terminate_backend", "pg_cancel_backend"] {
        let mut scene = Scene::set().await;
        let backend = scene.backend().await;
        let request = ask("job", LONG);
        scene.proxy.black_hole(Flow::Replies);
        let asking = tokio::spawn({
            let (backend, request) = (backend.clone(), request.clone());
            async move { acquire(&backend, &request).await }
        });
        let elsewhere = scene.names.connect(&scene.server.url()).await;
        eventually("it is granted", async || is_locked(&elsewhere, "job").await).await;
        assert!(scene.signal(function).await > 0, "{function}");
        let error = asking.await.unwrap();
        assert!(scene.is_stored(&request).await && error.may_have_applied(), "{error:?}");
    }
}

#[tokio::test]
async fn an_acquire_that_is_cancelled_or_ended_while_it_writes_stores_nothing() {
    for (function, certain) in [("pg_terminate_backend", false), ("pg_cancel_backend", true)] {
        let mut scene = Scene::set().await;
        let backend = scene.backend().await;
        let text = format!("job of {}", scene.names.locks);
        let request = ask(&text, LONG);
        let counter = hold_counter(&scene.server, &scene.names, &text).await;
        let asking = tokio::spawn({
            let (backend, request) = (backend.clone(), request.clone());
            async move { acquire(&backend, &request).await }
        });
        blocked(&scene.server).await;
        let waiting = format!(
            "SELECT count({function}(pid)) FROM pg_locks
             WHERE locktype = 'transactionid' AND NOT granted"
        );
        assert_eq!(scene.foreign.number(&waiting).await, 1, "{function}");
        let error = asking.await.unwrap();
        drop(counter);
        assert_eq!(!error.may_have_applied(), certain, "{function}: {error:?}");
        assert!(!scene.is_stored(&request).await, "{function}");
    }
}

#[tokio::test]
async fn an_acquire_on_a_server_that_was_killed_may_have_been_applied_and_was() {
    let server = PostgresServer::start().await.unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let names = Names::fresh();
    let backend = names.connect(&server.url_through(proxy.address())).await;
    let elsewhere = names.connect(&server.url()).await;
    granted(&backend, &ask("warm-up", LONG)).await;
    proxy.black_hole(Flow::Replies);
    let request = ask("job", LONG);
    let asking = tokio::spawn({
        let (backend, request) = (backend.clone(), request.clone());
        async move { acquire(&backend, &request).await }
    });
    eventually("it is granted", async || is_locked(&elsewhere, "job").await).await;
    server.kill().unwrap();
    let error = asking.await.unwrap();
    assert!(error.may_have_applied(), "{error:?}");
    server.restart().await.unwrap();
    assert!(is_locked(&names.connect(&server.url()).await, "job").await, "it is on disk");
}
