//! Waiters that are woken by a release.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use sqlx::postgres::PgListener;
use syncguard_core::{LockBackend, SyncGuard};
use syncguard_postgres::PostgresBackend;
use syncguard_tests::asking::{LONG, ask, eventually, granted, key, released};
use syncguard_tests::{proxy::Proxy, server::PostgresServer};

use crate::{Foreign, Names, shared};

/// How long a waiter has to be woken. Without a wake-up it would wait for ever.
const PATIENCE: Duration = Duration::from_secs(20);

struct Scene {
    server: Arc<PostgresServer>,
    proxy: Proxy,
    names: Names,
    mine: PostgresBackend,
    theirs: PostgresBackend,
}

impl Scene {
    /// Two clients, mine behind a proxy.
    async fn set() -> Self {
        let server = shared().await;
        let proxy = Proxy::start(server.address()).await.unwrap();
        let names = Names::fresh();
        let mine = names.connect(&server.url_through(proxy.address())).await;
        let theirs = names.connect(&server.url()).await;
        Self { server, proxy, names, mine, theirs }
    }

    /// A key of this scene: those of all scenes share the advisory locks.
    fn text(&self, name: &str) -> String {
        format!("{name} of {}", self.names.locks)
    }

    /// Counts the connections that wait for a key.
    async fn watchers(&self, text: &str) -> i64 {
        let sql = format!(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2
             AND mode = 'ShareLock' AND objid = (hashtext('{text}')::bigint & 4294967295)::oid"
        );
        Foreign::open(&self.server.url()).await.number(&sql).await
    }
}

/// Polls once, which takes a seat, and tells whether there is no news yet.
async fn waits(news: &mut Pin<&mut (impl Future<Output = ()> + Send)>) -> bool {
    poll_fn(|context| Poll::Ready(news.as_mut().poll(context).is_pending())).await
}

/// Waits until the key is watched, which is told.
async fn watched(backend: &PostgresBackend, text: &str) {
    tokio::time::timeout(PATIENCE, backend.released(&key(text))).await.unwrap();
}

#[tokio::test]
async fn a_waiter_is_woken_by_the_release_of_another_client_and_not_before() {
    let scene = Scene::set().await;
    let text = scene.text("job");
    let request = ask(&text, LONG);
    granted(&scene.theirs, &request).await;
    watched(&scene.mine, &text).await;
    let job = key(&text);
    let mut news = pin!(scene.mine.released(&job));
    for _ in 0..20 {
        assert!(waits(&mut news).await, "nothing was released");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(released(&scene.theirs, &request).await);
    tokio::time::timeout(PATIENCE, news).await.unwrap();
}

#[tokio::test]
async fn an_abandoned_and_a_forced_release_wake_as_well() {
    let scene = Scene::set().await;
    let text = scene.text("nul\0job");
    let job = key(&text);
    watched(&scene.mine, &text).await;
    for forced in [false, true] {
        let request = ask(&text, LONG);
        granted(&scene.theirs, &request).await;
        let mut news = pin!(scene.mine.released(&job));
        assert!(waits(&mut news).await);
        match forced {
            true => assert!(scene.theirs.force_release(&job).await.unwrap().is_some()),
            false => scene.theirs.abandon(request.lock_id, &job).await.unwrap(),
        }
        tokio::time::timeout(PATIENCE, news).await.unwrap();
    }
}

/// Whoever listens to the channel hears of releases that somebody waits for, and of no others.
#[tokio::test]
async fn a_release_is_told_only_where_somebody_waits() {
    let scene = Scene::set().await;
    let (waited_for, other) = (scene.text("waited for"), scene.text("other"));
    let mut ear = PgListener::connect(&scene.server.url()).await.unwrap();
    ear.listen(&format!("{}_released", scene.names.locks)).await.unwrap();
    watched(&scene.mine, &waited_for).await;
    for text in [&other, &other, &waited_for] {
        let request = ask(text, LONG);
        granted(&scene.theirs, &request).await;
        assert!(released(&scene.theirs, &request).await);
    }
    let told = tokio::time::timeout(PATIENCE, ear.recv()).await.unwrap().unwrap();
    let hash = format!("SELECT hashtext('{waited_for}')::text");
    let hash = Foreign::open(&scene.server.url()).await.text(&hash).await;
    assert_eq!(told.payload(), hash, "the first that is told is the last that was released");
}

#[tokio::test]
async fn all_waiters_of_a_client_share_one_connection() {
    let scene = Scene::set().await;
    let before = scene.proxy.counts().connections;
    let mut waiters = tokio::task::JoinSet::new();
    for waiter in 0..50 {
        let mine = scene.mine.clone();
        let text = scene.text(if waiter % 2 == 0 { "even" } else { "odd" });
        waiters.spawn(async move { watched(&mine, &text).await });
    }
    waiters.join_all().await;
    assert_eq!(scene.proxy.counts().connections, before + 1);
    assert_eq!(scene.watchers(&scene.text("even")).await, 1);
}

#[tokio::test]
async fn a_key_is_left_some_time_after_its_last_waiter_and_the_connection_with_it() {
    let scene = Scene::set().await;
    let text = scene.text("job");
    watched(&scene.mine, &text).await;
    assert_eq!(scene.watchers(&text).await, 1, "it lingers");
    eventually("the key is left", async || scene.watchers(&text).await == 0).await;
    let listening = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle' AND query LIKE 'LISTEN%{}%'",
        scene.names.locks
    );
    let mut foreign = Foreign::open(&scene.server.url()).await;
    eventually("nobody listens", async || foreign.number(&listening).await == 0).await;
    watched(&scene.mine, &text).await;
    assert_eq!(scene.watchers(&text).await, 1, "and watched again");
}

#[tokio::test]
async fn waiters_are_woken_by_a_reconnect_and_watch_again() {
    let scene = Scene::set().await;
    let text = scene.text("job");
    let job = key(&text);
    watched(&scene.mine, &text).await;
    let mut news = pin!(scene.mine.released(&job));
    assert!(waits(&mut news).await);
    assert!(scene.proxy.cut_all().await > 1, "the connection that listens is gone");
    tokio::time::timeout(PATIENCE, news).await.unwrap();
    eventually("the old lock is gone", async || scene.watchers(&text).await == 1).await;
    let request = ask(&text, LONG);
    granted(&scene.theirs, &request).await;
    let mut news = pin!(scene.mine.released(&job));
    assert!(waits(&mut news).await);
    assert!(released(&scene.theirs, &request).await);
    tokio::time::timeout(PATIENCE, news).await.unwrap();
}

/// A release that tested before the waiter came, and commits after that.
#[tokio::test]
async fn a_waiter_that_comes_while_a_release_is_committed_is_told() {
    let scene = Scene::set().await;
    let text = scene.text("job");
    let class = i32::from_be_bytes(*b"SGwt");
    let mut foreign = Foreign::open(&scene.server.url()).await;
    let test = format!("BEGIN; SELECT pg_try_advisory_xact_lock({class}, hashtext('{text}'))");
    foreign.run(&test).await;
    let job = key(&text);
    let mut news = pin!(scene.mine.released(&job));
    for _ in 0..20 {
        assert!(waits(&mut news).await, "the release is not committed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    foreign.run("COMMIT").await;
    tokio::time::timeout(PATIENCE, news).await.unwrap();
}

/// A peer that tells nobody, such as TypeScript's.
#[tokio::test]
async fn a_release_that_nobody_tells_is_found_by_the_schedule() {
    let scene = Scene::set().await;
    let text = scene.text("job");
    granted(&scene.theirs, &ask(&text, LONG)).await;
    let locks = SyncGuard::new(scene.mine.clone());
    let wait = tokio::spawn(locks.lock(&text).wait(LONG).acquire());
    eventually("the waiter is there", async || scene.watchers(&text).await == 1).await;
    let mut foreign = Foreign::open(&scene.server.url()).await;
    foreign.run(&format!("DELETE FROM {}", scene.names.locks)).await;
    let guard = tokio::time::timeout(PATIENCE, wait).await.unwrap().unwrap().unwrap();
    assert_eq!(guard.fence().unwrap().number(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_hand_offs_between_clients_none_is_missed() {
    let scene = Scene::set().await;
    let text = scene.text("job");
    let mut tasks = tokio::task::JoinSet::new();
    for backend in [&scene.mine, &scene.theirs, &scene.names.connect(&scene.server.url()).await] {
        let (locks, text) = (SyncGuard::new(backend.clone()), text.clone());
        tasks.spawn(async move {
            for _ in 0..100 {
                // No schedule helps: one that misses its release waits for the ttl.
                let retry = syncguard_core::Retry::fixed(LONG);
                let lock = locks.lock(&text).ttl(LONG).wait(PATIENCE).retry(retry);
                lock.acquire().await.unwrap().release().await.unwrap();
            }
        });
    }
    tasks.join_all().await;
}
