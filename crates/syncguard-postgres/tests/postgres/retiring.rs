//! Fence counters that are retired while they are used.

use std::sync::Arc;

use syncguard_core::backend::{LockBackend, Mode, RetireRequest};
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::{
    operations::{LONG, ask, eventually, granted, released},
    server::PostgresServer,
    sql::Tables,
};

use crate::{Foreign, Names, shared};

const NOW_MS: &str = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// A backend that seeds, and a counter of the key `job` as of two days ago.
struct Scene {
    _server: Arc<PostgresServer>,
    names: Names,
    backend: PostgresBackend,
    foreign: Foreign,
    other: Foreign,
    old: i64,
}

impl Scene {
    async fn new() -> Self {
        let (server, names) = (shared().await, Names::fresh());
        let config = names.config(&server.url()).seed_new_counters();
        let backend = PostgresBackend::connect(config).await.unwrap();
        let mut foreign = Foreign::open(&server.url()).await;
        let other = Foreign::open(&server.url()).await;
        let day = i64::try_from(RetireRequest::MIN_UNUSED_FOR.as_millis()).unwrap();
        let old = foreign.number(NOW_MS).await - 2 * day;
        Self { _server: server, names, backend, foreign, other, old }
    }

    async fn age(&mut self) {
        let (counters, old) = (&self.names.counters, self.old);
        let sql = format!(
            "INSERT INTO {counters} VALUES ('fence:job', {old}) ON CONFLICT (fence_key)
             DO UPDATE SET fence = excluded.fence"
        );
        self.foreign.run(&sql).await;
        self.foreign.run(&format!("DELETE FROM {}", self.names.locks)).await;
    }

    async fn until_someone_waits(&mut self) {
        let waiting = Names::WAITING.replace("{locks}", &self.names.locks);
        eventually("a statement waits", async || self.other.number(&waiting).await == 1).await;
    }

    async fn retire(&self) -> u64 {
        let request = RetireRequest::new(RetireRequest::MIN_UNUSED_FOR).unwrap();
        self.backend.retire_counters(&request).await.unwrap().retired
    }
}

/// The snapshot of the acquire shows the counter. When it has waited for the row, the row is gone.
#[tokio::test]
async fn an_acquire_whose_counter_is_retired_meanwhile_is_granted_under_a_higher_fence() {
    let mut scene = Scene::new().await;
    for mode in [Mode::Exclusive, Mode::SHARED] {
        scene.age().await;
        let counters = scene.names.counters.clone();
        scene.foreign.run("BEGIN").await;
        scene.foreign.run(&format!("DELETE FROM {counters}")).await;
        let (asking, request) = (scene.backend.clone(), ask("job", LONG).with_mode(mode));
        let asked = request.clone();
        let waiting = tokio::spawn(async move { granted(&asking, &asked).await });
        scene.until_someone_waits().await;
        scene.foreign.run("COMMIT").await;
        let fence = i64::try_from(waiting.await.unwrap().fence.number()).unwrap();
        assert!(fence > scene.old, "{mode:?}: {fence} after {}", scene.old);
        assert!(released(&scene.backend, &request).await);
    }
}

/// An acquire that has counted the counter and is not committed, and a shared holder that has locked
/// the row of its key, are not waited for.
#[tokio::test]
async fn a_retirement_waits_for_no_one_and_leaves_what_others_change() {
    let mut scene = Scene::new().await;
    let (counters, locks) = (scene.names.counters.clone(), scene.names.locks.clone());
    scene.age().await;
    scene.foreign.run("BEGIN").await;
    scene.foreign.run(&format!("SELECT FROM {counters} FOR UPDATE")).await;
    assert_eq!(scene.retire().await, 0);
    scene.foreign.run("ROLLBACK").await;
    let request = ask("job", LONG);
    granted(&scene.backend, &request).await;
    let expire = format!("UPDATE {locks} SET expires_at_ms = 1, fence = lpad('1', 15, '0')");
    scene.foreign.run(&expire).await;
    let age = format!("UPDATE {counters} SET fence = {}", scene.old);
    scene.foreign.run(&age).await;
    scene.foreign.run("BEGIN").await;
    scene.foreign.run(&format!("SELECT FROM {locks} FOR UPDATE")).await;
    assert_eq!(scene.retire().await, 0, "a counter stays as long as its key has a row");
    scene.foreign.run("ROLLBACK").await;
    assert_eq!(scene.retire().await, 1);
    assert_eq!(scene.foreign.number(&format!("SELECT count(*) FROM {locks}")).await, 0);
}
