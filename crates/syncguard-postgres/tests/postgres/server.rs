//! A server that stops, crashes, ends its connections, or pauses.

use syncguard_core::backend::LockBackend;
use syncguard_testkit::{
    operations::{LONG, ask, granted, key, released},
    server::PostgresServer,
    sql::server,
};

use crate::{Names, connect};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fence_goes_back_over_ten_kills_under_load() {
    server::no_fence_goes_back_over_ten_kills_under_load::<Names>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soon_after_a_restart_locks_are_granted_again() {
    server::soon_after_a_restart_locks_are_granted_again::<Names>().await;
}

#[tokio::test]
async fn errors_of_pruning_and_of_the_schema_name_their_operation() {
    server::errors_of_pruning_and_of_the_schema_name_their_operation::<Names>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soon_after_losing_its_connections_a_client_is_granted_locks_again() {
    let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE application_name = 'syncguard'";
    server::soon_after_losing_its_connections_a_client_is_granted_locks_again::<Names>(
        async |foreign| foreign.number(terminate).await > 0,
    )
    .await;
}

/// A grant is on disk before it is answered, and a release is not. If a crash undoes the release,
/// the former holder has the lock until its ttl has passed, and no one else does.
#[tokio::test]
async fn a_crash_may_undo_a_release_but_no_grant() {
    // By itself, the server writes its log only every ten seconds.
    let server = PostgresServer::builder().setting("wal_writer_delay", "10000ms");
    let server = server.start().await.unwrap();
    let backend = connect(&server.url()).await;
    let mut came_back = 0;
    for round in 1..=5 {
        let request = ask("job", LONG);
        let grant = granted(&backend, &request).await;
        assert!(released(&backend, &request).await);
        server.kill().unwrap();
        server.restart().await.unwrap();
        let job = key("job");
        let record = backend.lookup(&job.clone().into()).await.unwrap();
        if let Some(record) = record {
            came_back += 1;
            assert_eq!((record.lock_id, record.fence), (request.lock_id, grant.fence));
            assert!(backend.force_release(&job).await.unwrap().is_some());
        }
        assert_eq!(grant.fence.number(), round, "no fence is lost");
    }
    assert!(came_back > 0, "no release was lost");
}

#[tokio::test]
async fn a_holder_whose_server_was_paused_past_the_ttl_has_lost_the_lock() {
    server::a_holder_whose_server_was_paused_past_the_ttl_has_lost_the_lock::<Names>().await;
}
