//! Sessions whose settings are not set by the backend: those of a caller's pool and of a pooler.

use std::{future::Future, time::Duration};

use sqlx::{PgPool, postgres::PgPoolOptions};
use syncguard_core::{
    Error, ErrorKind,
    backend::{AcquireOutcome, ListRequest, LockBackend},
};
use syncguard_postgres::{PostgresBackend, PostgresConfig};
use syncguard_testkit::{
    operations::{LONG, ask, error_of, granted, is_locked, lock_of, released, ttl},
    server::{PgBouncer, PgBouncerServer, PostgresServer},
};

use crate::{
    Foreign, Names,
    queueing::{hold_turn, queued},
    shared,
};

/// A pool whose sessions begin their transactions at this level.
async fn pool_at(server: &PostgresServer, level: &str) -> PgPool {
    let options: sqlx::postgres::PgConnectOptions = server.url().parse().unwrap();
    let options = options.options([("default_transaction_isolation", level)]);
    PgPoolOptions::new().max_connections(16).connect_with(options).await.unwrap()
}

async fn on(pool: PgPool, names: &Names) -> PostgresBackend {
    let config = PostgresConfig::from_pool(pool).tables(&names.locks, &names.counters);
    PostgresBackend::connect(config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unrelated_keys_never_fail_on_a_serializable_pool() {
    const TASKS: usize = 16;
    const KEYS_PER_TASK: usize = 60;
    let (server, names) = (shared().await, Names::fresh());
    let backend = on(pool_at(&server, "serializable").await, &names).await;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let backend = backend.clone();
        tasks.spawn(async move {
            let mut passed = 0;
            for round in 0..KEYS_PER_TASK {
                let request = ask(&format!("k{task} {round}"), LONG);
                let outcome = backend.acquire(&request).await;
                let granted = matches!(outcome, Ok(AcquireOutcome::Granted(_)));
                passed += usize::from(granted && backend.release(&lock_of(&request)).await.is_ok());
            }
            passed
        });
    }
    let passed: usize = tasks.join_all().await.into_iter().sum();
    assert_eq!(passed, TASKS * KEYS_PER_TASK);
}

/// At a stricter level than read committed, the loser of a race would fail.
#[tokio::test]
async fn the_loser_of_a_race_is_contended_at_any_isolation_level_of_the_session() {
    let (server, names) = (shared().await, Names::fresh());
    for level in ["repeatable read", "serializable"] {
        let pool = pool_at(&server, level).await;
        let shown: String = sqlx::query_scalar("SHOW default_transaction_isolation")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(shown, level);
        let backend = on(pool, &names).await;
        let text = format!("{level} job of {}", names.locks);
        let mut winner = hold_turn(&server, &text).await;
        let late = tokio::spawn({
            let (backend, request) = (backend.clone(), ask(&text, LONG));
            async move { backend.acquire(&request).await }
        });
        queued(&server, 1).await;
        let row = format!("'{text}', '{:-<22}', 9e15, 1, '000000000000001', '{text}'", level.len());
        winner.run(&format!("INSERT INTO {} VALUES ({row})", names.locks)).await;
        winner.run("COMMIT").await;
        let outcome = late.await.unwrap().unwrap();
        assert!(matches!(outcome, AcquireOutcome::Contended { holder: Some(_) }), "{outcome:?}");
    }
}

/// A trigger that rejects the first six writes with the error of a serialisation conflict. The
/// sequence counts them, because it is not rolled back.
const CONFLICTS: &str = "CREATE SEQUENCE {locks}_tries;
    CREATE FUNCTION {locks}_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF nextval('{locks}_tries') <= 6 THEN RAISE EXCEPTION USING ERRCODE = '40001'; END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON {locks} FOR EACH ROW EXECUTE FUNCTION {locks}_refuse()";

#[tokio::test]
async fn a_statement_that_the_server_undid_in_a_conflict_is_run_again() {
    let (server, names) = (shared().await, Names::fresh());
    let backend = names.connect(&server.url()).await;
    let mut foreign = Foreign::open(&server.url()).await;
    foreign.run(&CONFLICTS.replace("{locks}", &names.locks)).await;
    granted(&backend, &ask("job", LONG)).await;
    let tries = format!("SELECT last_value FROM {}_tries", names.locks);
    assert_eq!(foreign.number(&tries).await, 7, "six conflicts came first");
}

/// The three kinds of sessions.
async fn backends(
    server: &PostgresServer,
    names: &Names,
) -> (PgBouncerServer, Vec<(&'static str, PostgresBackend)>) {
    let pooler = PgBouncer::before(server.address()).start().await.unwrap();
    let short = Duration::from_millis(200);
    let limited = |config: PostgresConfig| {
        PostgresBackend::connect(config.tables(&names.locks, &names.counters).lock_timeout(short))
    };
    let own = PostgresConfig::from_url(&server.url()).unwrap();
    let pooled = PostgresConfig::from_url(&pooler.url()).unwrap().pgbouncer();
    let callers = PostgresConfig::from_pool(PgPool::connect(&server.url()).await.unwrap());
    let backends = vec![
        ("own", limited(own).await.unwrap()),
        ("a caller's pool", limited(callers).await.unwrap()),
        ("pgbouncer", limited(pooled).await.unwrap()),
    ];
    (pooler, backends)
}

async fn times_out<T: std::fmt::Debug>(what: &str, work: impl Future<Output = Result<T, Error>>) {
    let error = error_of(work.await, ErrorKind::ServiceUnavailable);
    let text = error.to_string();
    assert!(text.contains("lock timeout"), "{what}: {text}");
    assert!(!error.may_have_applied(), "{what}: {error:?}");
}

#[tokio::test]
async fn a_blocked_statement_times_out_at_the_server_and_leaves_nothing_waiting() {
    let (server, names) = (shared().await, Names::fresh());
    let (_pooler, backends) = backends(&server, &names).await;
    let waiting = format!(
        "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
         WHERE NOT granted AND query LIKE '%{}%'",
        names.locks
    );
    let mut foreign = Foreign::open(&server.url()).await;
    for (sessions, backend) in backends {
        let request = ask(&format!("job of {sessions}"), LONG);
        granted(&backend, &request).await;
        let (lock, id) = (lock_of(&request), request.lock_id.as_str());
        let row = format!("SELECT 1 FROM {} WHERE lock_id = '{id}' FOR UPDATE", names.locks);
        let table = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", names.locks);
        for blocking in [row, table] {
            let blocks_readers = blocking.starts_with("LOCK");
            foreign.run(&format!("BEGIN; {blocking}")).await;
            times_out(sessions, backend.release(&lock)).await;
            times_out(sessions, backend.abandon(request.lock_id, &request.key)).await;
            times_out(sessions, backend.force_release(&request.key)).await;
            times_out(sessions, backend.extend(&lock, ttl(LONG))).await;
            if blocks_readers {
                times_out(sessions, backend.acquire(&ask("other", LONG))).await;
                times_out(sessions, backend.lookup(&request.lock_id.into())).await;
                times_out(sessions, backend.list(&ListRequest::new(""))).await;
                times_out(sessions, backend.prune(Duration::ZERO)).await;
            }
            assert_eq!(foreign.number(&waiting).await, 0, "{sessions}");
            foreign.run("ROLLBACK").await;
        }
        assert!(is_locked(&backend, request.key.as_str()).await, "{sessions}: nothing was changed");
        assert!(released(&backend, &request).await);
    }
}
