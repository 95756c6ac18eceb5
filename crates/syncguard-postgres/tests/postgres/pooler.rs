//! A pooler that assigns connections to single transactions.

use syncguard_core::UnsafeSettings;
use syncguard_core::backend::{LockBackend, WakeUp};
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::{
    operations::{LONG, ask, granted, is_contended, released},
    server::PgBouncer,
};

use crate::{Names, config, shared};

/// The clients share one connection of the server, where each finds what the others have prepared.
#[tokio::test]
async fn clients_that_share_a_server_connection_do_not_run_each_others_statements() {
    let server = shared().await;
    let pooler = PgBouncer::before(server.address()).setting("default_pool_size", "1");
    let pooler = pooler.start().await.unwrap();
    let (one, other) = (Names::fresh(), Names::fresh());
    let mut tasks = tokio::task::JoinSet::new();
    for names in [&one, &other, &one, &other] {
        let backend =
            PostgresBackend::connect(names.config(&pooler.url()).pgbouncer()).await.unwrap();
        tasks.spawn(async move {
            for round in 0..50 {
                let request = ask(&format!("{:p} {round}", &backend), LONG);
                assert_eq!(granted(&backend, &request).await.fence.number(), 1);
                assert!(released(&backend, &request).await);
            }
        });
    }
    tasks.join_all().await;
}

#[tokio::test]
async fn a_pooler_without_the_pgbouncer_mode_is_refused_with_advice() {
    let server = shared().await;
    let pooler = PgBouncer::before(server.address()).start().await.unwrap();
    let error = PostgresBackend::connect(config(&pooler.url())).await.unwrap_err();
    assert!(error.to_string().contains("option pgbouncer"), "{error}");
    // A pooler that accepts the settings still loses track of the prepared statements.
    let lenient = "extra_float_digits,options";
    let pooler = PgBouncer::before(server.address()).setting("ignore_startup_parameters", lenient);
    let pooler = pooler.setting("default_pool_size", "1").start().await.unwrap();
    let names = Names::fresh();
    let mut advice = false;
    for _ in 0..2 {
        let config = names.config(&pooler.url()).unsafe_settings(UnsafeSettings::Ignore);
        match PostgresBackend::connect(config).await {
            Ok(backend) => drop(backend.acquire(&ask("job", LONG)).await),
            Err(error) => advice |= error.to_string().contains("option pgbouncer"),
        }
    }
    assert!(advice, "the second client meets the statements of the first");
}

#[tokio::test]
async fn a_waiter_is_woken_only_if_it_can_listen() {
    let (server, names) = (shared().await, Names::fresh());
    let pooler = PgBouncer::before(server.address()).start().await.unwrap();
    let pooled = names.config(&pooler.url()).pgbouncer();
    let not_listening = PostgresBackend::connect(pooled.clone()).await.unwrap();
    assert_eq!(not_listening.capabilities().wake_up, WakeUp::None);
    let listening =
        PostgresBackend::connect(pooled.listen_url(&server.url()).unwrap()).await.unwrap();
    assert_eq!(listening.capabilities().wake_up, WakeUp::InTurn);
    let request = ask("job", LONG);
    granted(&not_listening, &request).await;
    assert!(is_contended(&listening, "job").await);
}
