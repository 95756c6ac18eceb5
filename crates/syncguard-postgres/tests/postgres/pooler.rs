//! A pooler that gives out connections for single transactions.

use syncguard_core::UnsafeSettings;
use syncguard_core::{LockBackend, WakeUp};
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::{
    operations::{LONG, ask, granted, is_contended, released},
    server::PgBouncer,
};

use crate::{Names, config, shared};

/// Two connections of clients, one to the server: what the one prepares, the other one meets.
#[tokio::test]
async fn clients_that_share_a_connection_of_the_server_do_not_meet_each_others_statements() {
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
async fn without_the_mode_for_it_a_pooler_is_refused_with_advice() {
    let server = shared().await;
    let pooler = PgBouncer::before(server.address()).start().await.unwrap();
    let error = PostgresBackend::connect(config(&pooler.url())).await.unwrap_err();
    assert!(error.to_string().contains("pgbouncer mode"), "{error}");
    // One that lets the settings pass still loses track of what is prepared.
    let lenient = "extra_float_digits,options";
    let pooler = PgBouncer::before(server.address()).setting("ignore_startup_parameters", lenient);
    let pooler = pooler.setting("default_pool_size", "1").start().await.unwrap();
    let names = Names::fresh();
    let mut advice = false;
    for _ in 0..2 {
        let config = names.config(&pooler.url()).unsafe_settings(UnsafeSettings::Ignore);
        match PostgresBackend::connect(config).await {
            Ok(backend) => drop(backend.acquire(&ask("job", LONG)).await),
            Err(error) => advice |= error.to_string().contains("pgbouncer mode"),
        }
    }
    assert!(advice, "the second client meets the statements of the first");
}

#[tokio::test]
async fn a_waiter_is_woken_only_where_it_can_listen() {
    let (server, names) = (shared().await, Names::fresh());
    let pooler = PgBouncer::before(server.address()).start().await.unwrap();
    let pooled = names.config(&pooler.url()).pgbouncer();
    let deaf = PostgresBackend::connect(pooled.clone()).await.unwrap();
    assert_eq!(deaf.capabilities().wake_up, WakeUp::None);
    let hearing =
        PostgresBackend::connect(pooled.listen_url(&server.url()).unwrap()).await.unwrap();
    assert_eq!(hearing.capabilities().wake_up, WakeUp::Notified);
    let request = ask("job", LONG);
    granted(&deaf, &request).await;
    assert!(is_contended(&hearing, "job").await);
}
