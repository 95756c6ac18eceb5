//! Waiters that are woken by a release.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use sqlx::postgres::PgListener;
use syncguard_core::{LockManager, backend::LockBackend};
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::operations::{LONG, ask, eventually, granted, key, released};
use syncguard_testkit::{proxy::Proxy, server::PostgresServer};

use crate::{Foreign, Names, shared};

/// The limit on waiting for a wake-up. Without a wake-up a waiter would wait forever.
pub(crate) const WAKE_TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) struct Scene {
    pub(crate) server: Arc<PostgresServer>,
    pub(crate) proxy: Proxy,
    pub(crate) names: Names,
    pub(crate) mine: PostgresBackend,
    pub(crate) theirs: PostgresBackend,
}

impl Scene {
    /// Connects two clients, one of them (`mine`) behind a proxy.
    pub(crate) async fn set() -> Self {
        let server = shared().await;
        let proxy = Proxy::start(server.address()).await.unwrap();
        let names = Names::fresh();
        let url = server.url_through(proxy.address());
        let mine = names.connect(&format!("{url}?application_name={}", names.locks)).await;
        let theirs = names.connect(&server.url()).await;
        Self { server, proxy, names, mine, theirs }
    }

    /// Returns a key of this scene, because the keys of all scenes share the advisory locks.
    pub(crate) fn text(&self, name: &str) -> String {
        format!("{name} of {}", self.names.locks)
    }

    /// Counts the connections that wait for a key.
    async fn watchers(&self, text: &str) -> i64 {
        let sql = format!(
            "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
             WHERE locktype = 'advisory' AND objsubid = 2 AND mode = 'ShareLock'
             AND objid = (hashtext('{text}') & 255)::oid AND application_name = '{}'",
            self.names.locks
        );
        Foreign::open(&self.server.url()).await.number(&sql).await
    }

    /// Counts the advisory locks of my client.
    pub(crate) async fn locks(&self) -> i64 {
        let sql = format!(
            "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
             WHERE locktype = 'advisory' AND application_name = '{}'",
            self.names.locks
        );
        Foreign::open(&self.server.url()).await.number(&sql).await
    }
}

/// Polls once, which subscribes, and returns whether there is no notification yet.
pub(crate) async fn is_pending(
    notification: &mut Pin<&mut (impl Future<Output = ()> + Send)>,
) -> bool {
    poll_fn(|context| Poll::Ready(notification.as_mut().poll(context).is_pending())).await
}

/// Waits until the key is watched, which counts as a notification.
pub(crate) async fn watched(backend: &PostgresBackend, text: &str) {
    tokio::time::timeout(WAKE_TIMEOUT, backend.released(&key(text))).await.unwrap();
}

#[tokio::test]
async fn a_subscription_is_active_once_the_key_is_watched() {
    let scene = Scene::set().await;
    let (mine, job) = (&scene.mine, key(&scene.text("job")));
    let mut confirmed = pin!(mine.released(&job));
    assert!(is_pending(&mut confirmed).await && !mine.is_subscribed(&job));
    tokio::time::timeout(WAKE_TIMEOUT, confirmed).await.unwrap();
    assert!(mine.is_subscribed(&job) && !mine.is_subscribed(&key("another")));
}

#[tokio::test]
async fn a_waiter_is_woken_by_the_release_of_another_client_and_not_before() {
    let scene = Scene::set().await;
    let text = scene.text("job");
    let request = ask(&text, LONG);
    granted(&scene.theirs, &request).await;
    watched(&scene.mine, &text).await;
    let job = key(&text);
    let mut notification = pin!(scene.mine.released(&job));
    for _ in 0..20 {
        assert!(is_pending(&mut notification).await, "nothing was released");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(released(&scene.theirs, &request).await);
    tokio::time::timeout(WAKE_TIMEOUT, notification).await.unwrap();
}

#[tokio::test]
async fn an_abandon_and_a_forced_release_wake_waiters_as_well() {
    let scene = Scene::set().await;
    let text = scene.text("nul\0job");
    let job = key(&text);
    watched(&scene.mine, &text).await;
    for forced in [false, true] {
        let request = ask(&text, LONG);
        granted(&scene.theirs, &request).await;
        let mut notification = pin!(scene.mine.released(&job));
        assert!(is_pending(&mut notification).await);
        match forced {
            true => assert!(scene.theirs.force_release(&job).await.unwrap().is_some()),
            false => scene.theirs.abandon(request.lock_id, &job).await.unwrap(),
        }
        tokio::time::timeout(WAKE_TIMEOUT, notification).await.unwrap();
    }
}

/// A listener on the channel receives only the releases that a client waits for.
#[tokio::test]
async fn a_release_notifies_only_if_a_client_waits() {
    let scene = Scene::set().await;
    let waited_for = scene.text("waited for");
    let other = format!(
        "SELECT min('{waited_for} ' || n) FROM generate_series(1, 100) AS n
         WHERE hashtext('{waited_for} ' || n) & 255 <> hashtext('{waited_for}') & 255"
    );
    let other = Foreign::open(&scene.server.url()).await.text(&other).await;
    let mut listener = PgListener::connect(&scene.server.url()).await.unwrap();
    listener.listen(&format!("{}_released", scene.names.locks)).await.unwrap();
    watched(&scene.mine, &waited_for).await;
    for text in [&other, &other, &waited_for] {
        let request = ask(text, LONG);
        granted(&scene.theirs, &request).await;
        assert!(released(&scene.theirs, &request).await);
    }
    let notification = tokio::time::timeout(WAKE_TIMEOUT, listener.recv()).await.unwrap().unwrap();
    let hash = format!("SELECT hashtext('{waited_for}')::text");
    let hash = Foreign::open(&scene.server.url()).await.text(&hash).await;
    assert_eq!(
        notification.payload(),
        hash,
        "the first that is told is the last that was released"
    );
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
    assert_eq!(scene.proxy.counts().connections, before, "the one that it had");
    assert_eq!(scene.watchers(&scene.text("even")).await, 1);
}

#[tokio::test]
async fn a_key_is_unwatched_some_time_after_its_last_waiter_and_the_connection_stops_listening() {
    let scene = Scene::set().await;
    let text = scene.text("job");
    watched(&scene.mine, &text).await;
    assert_eq!(scene.watchers(&text).await, 1, "it lingers");
    eventually("the key is left", async || scene.watchers(&text).await == 0).await;
    let listening = format!(
        "SELECT count(*) FROM pg_stat_activity
         WHERE query = 'UNLISTEN *' AND application_name = '{}'",
        scene.names.locks
    );
    let mut foreign = Foreign::open(&scene.server.url()).await;
    eventually("nobody listens", async || foreign.number(&listening).await == 1).await;
    watched(&scene.mine, &text).await;
    assert_eq!(scene.watchers(&text).await, 1, "and watched again");
}

#[tokio::test]
async fn waiters_are_woken_by_a_reconnect_and_watch_again() {
    let scene = Scene::set().await;
    let text = scene.text("job");
    let job = key(&text);
    watched(&scene.mine, &text).await;
    let mut notification = pin!(scene.mine.released(&job));
    assert!(is_pending(&mut notification).await);
    assert_eq!(scene.proxy.cut_all().await, 1, "the connection that listens is gone");
    tokio::time::timeout(WAKE_TIMEOUT, notification).await.unwrap();
    eventually("the old lock is gone", async || scene.watchers(&text).await == 1).await;
    let request = ask(&text, LONG);
    granted(&scene.theirs, &request).await;
    let mut notification = pin!(scene.mine.released(&job));
    assert!(is_pending(&mut notification).await);
    assert!(released(&scene.theirs, &request).await);
    tokio::time::timeout(WAKE_TIMEOUT, notification).await.unwrap();
}

/// A release that tried the advisory lock before the waiter arrived, and commits afterwards.
#[tokio::test]
async fn a_waiter_that_arrives_while_a_release_is_being_committed_is_notified() {
    let scene = Scene::set().await;
    let text = scene.text("job");
    let class = i32::from_be_bytes(*b"SGwt");
    let mut foreign = Foreign::open(&scene.server.url()).await;
    let test =
        format!("BEGIN; SELECT pg_try_advisory_xact_lock({class}, hashtext('{text}') & 255)");
    foreign.run(&test).await;
    let job = key(&text);
    let mut notification = pin!(scene.mine.released(&job));
    for _ in 0..20 {
        assert!(is_pending(&mut notification).await, "the release is not committed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    foreign.run("COMMIT").await;
    tokio::time::timeout(WAKE_TIMEOUT, notification).await.unwrap();
}

/// A peer that does not notify, such as a TypeScript client.
#[tokio::test]
async fn a_release_without_a_notification_is_found_by_the_retry_schedule() {
    let scene = Scene::set().await;
    let text = scene.text("job");
    granted(&scene.theirs, &ask(&text, LONG)).await;
    let locks = LockManager::new(scene.mine.clone());
    let wait = tokio::spawn(locks.lock(&text).wait(LONG).acquire());
    eventually("the waiter is there", async || scene.watchers(&text).await == 1).await;
    let mut foreign = Foreign::open(&scene.server.url()).await;
    foreign.run(&format!("DELETE FROM {}", scene.names.locks)).await;
    let guard = tokio::time::timeout(WAKE_TIMEOUT, wait).await.unwrap().unwrap().unwrap();
    assert_eq!(guard.fence().unwrap().number(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_hand_off_between_clients_is_missed() {
    let scene = Scene::set().await;
    let text = scene.text("job");
    let mut tasks = tokio::task::JoinSet::new();
    for backend in [&scene.mine, &scene.theirs, &scene.names.connect(&scene.server.url()).await] {
        let (locks, text) = (LockManager::new(backend.clone()), text.clone());
        tasks.spawn(async move {
            for _ in 0..100 {
                // The retry schedule does not help: a waiter that misses a release waits for the
                // ttl.
                let retry = syncguard_core::Retry::fixed(LONG);
                let lock = locks.lock(&text).ttl(LONG).wait(WAKE_TIMEOUT).retry(retry);
                lock.acquire().await.unwrap().release().await.unwrap();
            }
        });
    }
    tasks.join_all().await;
}

/// Returns keys of one bucket.
async fn of_one_bucket(scene: &Scene, count: usize) -> Vec<String> {
    let prefix = scene.text("key");
    let sql = format!(
        "SELECT name FROM (SELECT '{prefix} ' || n AS name FROM generate_series(1, 20000) AS n)
         AS names WHERE hashtext(name) & 255 = 77 LIMIT {count}"
    );
    let mut foreign = Foreign::open(&scene.server.url()).await;
    let rows = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&mut foreign.0).await;
    rows.unwrap()
}

#[tokio::test]
async fn keys_of_one_bucket_share_a_lock_and_each_is_woken_only_by_its_own_release() {
    let scene = Scene::set().await;
    let texts = of_one_bucket(&scene, 3).await;
    let keys: Vec<_> = texts.iter().map(|text| key(text)).collect();
    for text in &texts {
        watched(&scene.mine, text).await;
    }
    assert_eq!(scene.locks().await, 1);
    for (released_key, text) in texts.iter().enumerate() {
        let request = ask(text, LONG);
        granted(&scene.theirs, &request).await;
        let mut all: Vec<_> = keys.iter().map(|key| Box::pin(scene.mine.released(key))).collect();
        for notification in &mut all {
            assert!(is_pending(&mut notification.as_mut()).await, "nothing was released");
        }
        assert!(released(&scene.theirs, &request).await);
        let mut notification = all.remove(released_key);
        tokio::time::timeout(WAKE_TIMEOUT, notification.as_mut()).await.unwrap();
        for other in &mut all {
            assert!(
                is_pending(&mut other.as_mut()).await,
                "another key of the bucket was released"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_watched_keys_take_one_server_lock_for_each_bucket() {
    const KEYS: usize = 20_000;
    let scene = Scene::set().await;
    let mut waiters = tokio::task::JoinSet::new();
    let subscribed = Arc::new(tokio::sync::Semaphore::new(0));
    let mut counts = Vec::new();
    for number in 0..KEYS {
        let (mine, done) = (scene.mine.clone(), subscribed.clone());
        let text = scene.text(&format!("key {number}"));
        waiters.spawn(async move {
            watched(&mine, &text).await;
            let job = key(&text);
            let mut notification = pin!(mine.released(&job));
            assert!(is_pending(&mut notification).await, "nothing was released");
            done.add_permits(1);
            notification.await;
            number
        });
        if number + 1 == KEYS / 4 || number + 1 == KEYS {
            let all = u32::try_from(number + 1).unwrap();
            let all = tokio::time::timeout(WAKE_TIMEOUT * 3, subscribed.acquire_many(all)).await;
            drop(all.unwrap().unwrap());
            counts.push(scene.locks().await);
        }
    }
    assert_eq!(counts, [256, 256], "a lock for each bucket");
    for number in [0, KEYS / 2, KEYS - 1] {
        let request = ask(&scene.text(&format!("key {number}")), LONG);
        granted(&scene.theirs, &request).await;
        assert!(released(&scene.theirs, &request).await);
        let woken = tokio::time::timeout(WAKE_TIMEOUT, waiters.join_next()).await.unwrap();
        assert_eq!(woken.unwrap().unwrap(), number, "and no one else");
    }
}
