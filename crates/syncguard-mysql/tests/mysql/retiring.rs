//! Fence counters that are retired while they are used.

use syncguard_core::backend::{Mode, RetireRequest};
use syncguard_mysql::MysqlBackend;
use syncguard_testkit::{
    operations::{LONG, ask, eventually, granted, released},
    sql::Tables,
};

use crate::{Foreign, NOW_MS, Name, shared};

/// The first statement of the acquire finds the row, and the second one waits until it is gone.
#[tokio::test]
async fn an_acquire_whose_row_is_retired_meanwhile_is_granted_under_a_higher_fence() {
    let (server, name) = (shared().await, Name::fresh());
    let config = name.config(server.url()).seed_new_counters();
    let backend = MysqlBackend::connect(config).await.unwrap();
    let (mut foreign, mut other) =
        (Foreign::open(server.url()).await, Foreign::open(server.url()).await);
    let now = foreign.number(NOW_MS).await;
    let retired = now - 2 * i64::try_from(RetireRequest::MIN_UNUSED_FOR.as_millis()).unwrap();
    for mode in [Mode::Exclusive, Mode::SHARED] {
        let row = format!(
            "REPLACE INTO {{locks}} (lock_key, fence, acquired_at_ms, expires_at_ms)
             VALUES ('job', {retired}, 0, 0)"
        );
        foreign.run(&name.fill(&row)).await;
        foreign.run(&name.fill("BEGIN; DELETE FROM {locks} WHERE lock_key = 'job'")).await;
        let (asking, request) = (backend.clone(), ask("job", LONG).with_mode(mode));
        let asked = request.clone();
        let waiting = tokio::spawn(async move { granted(&asking, &asked).await });
        let count = name.fill(Name::WAITING);
        eventually("the acquire waits", async || other.number(&count).await == 1).await;
        foreign.run("COMMIT").await;
        let fence = i64::try_from(waiting.await.unwrap().fence.number()).unwrap();
        assert!(fence > retired, "{mode:?}: {fence} after {retired}");
        assert!(released(&backend, &request).await);
    }
}
