//! Waiters that are woken by a release.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use syncguard_core::{LockManager, backend::LockBackend};
use syncguard_redis::RedisBackend;
use syncguard_testkit::{
    log_capture::EventCounter,
    operations::{LONG, ask, eventually, granted, key, released},
    proxy::{Flow, Occurrences, Proxy},
    server::RedisServer,
};

use crate::{connect, safe};

/// The time within which a waiter must be woken. Without a wake-up, it would wait forever.
const WAKE_UP_TIMEOUT: Duration = Duration::from_secs(20);

async fn started() -> (RedisServer, Proxy, RedisBackend) {
    let server = safe().start().await.unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let backend = connect(&server.url_through(proxy.address())).await;
    (server, proxy, backend)
}

/// Polls once, which subscribes, and returns whether there is no notification yet.
async fn is_pending(notification: &mut Pin<&mut (impl Future<Output = ()> + Send)>) -> bool {
    poll_fn(|context| Poll::Ready(notification.as_mut().poll(context).is_pending())).await
}

/// Waits until the subscription to the key is confirmed, which counts as a notification.
async fn subscribed(backend: &RedisBackend, text: &str) {
    tokio::time::timeout(WAKE_UP_TIMEOUT, backend.released(&key(text))).await.unwrap();
}

/// Counts the subscribers of a key's channel.
async fn subscribers(server: &RedisServer, text: &str) -> String {
    let channel = format!("syncguard:{text}:released");
    let counted = server.command(&["PUBSUB", "NUMSUB", &channel]).await.unwrap();
    counted.lines().last().unwrap().to_owned()
}

#[tokio::test]
async fn a_waiter_is_woken_by_the_release_of_another_client_and_not_before() {
    let (server, _proxy, mine) = started().await;
    let theirs = connect(&server.url()).await;
    let request = ask("job", LONG);
    granted(&theirs, &request).await;
    subscribed(&mine, "job").await;
    let job = key("job");
    let mut notification = pin!(mine.released(&job));
    for _ in 0..20 {
        assert!(is_pending(&mut notification).await, "nothing was released");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(released(&theirs, &request).await);
    tokio::time::timeout(WAKE_UP_TIMEOUT, notification).await.unwrap();
}

#[tokio::test]
async fn a_subscription_is_active_once_the_server_has_confirmed_it() {
    let (_server, _proxy, mine) = started().await;
    let job = key("job");
    let mut confirmed = pin!(mine.released(&job));
    assert!(is_pending(&mut confirmed).await && !mine.is_subscribed(&job));
    tokio::time::timeout(WAKE_UP_TIMEOUT, confirmed).await.unwrap();
    assert!(mine.is_subscribed(&job) && !mine.is_subscribed(&key("another")));
}

#[tokio::test]
async fn the_connection_of_the_waiters_is_closed_when_no_one_waits_and_opened_for_the_next_wait() {
    let server = safe().start().await.unwrap();
    let (mine, theirs) = (connect(&server.url()).await, connect(&server.url()).await);
    let listeners = async || {
        let listed = server.command(&["CLIENT", "LIST", "TYPE", "pubsub"]).await.unwrap();
        listed.lines().filter(|line| line.contains("id=")).count()
    };
    for _ in 0..2 {
        subscribed(&mine, "job").await;
        assert_eq!(listeners().await, 1);
        eventually("the connection is closed", async || listeners().await == 0).await;
        assert!(!mine.is_subscribed(&key("job")));
    }
    subscribed(&mine, "job").await;
    let request = ask("job", LONG);
    granted(&theirs, &request).await;
    let job = key("job");
    let mut notification = pin!(mine.released(&job));
    assert!(is_pending(&mut notification).await);
    assert!(released(&theirs, &request).await);
    tokio::time::timeout(WAKE_UP_TIMEOUT, notification).await.unwrap();
}

#[tokio::test]
async fn an_abandon_and_a_forced_release_wake_waiters() {
    let (server, _proxy, mine) = started().await;
    let theirs = connect(&server.url()).await;
    subscribed(&mine, "job").await;
    let job = key("job");
    for forced in [false, true] {
        let request = ask("job", LONG);
        granted(&theirs, &request).await;
        let mut notification = pin!(mine.released(&job));
        assert!(is_pending(&mut notification).await);
        match forced {
            true => assert!(theirs.force_release(&job).await.unwrap().is_some()),
            false => theirs.abandon(request.lock_id, &job).await.unwrap(),
        }
        tokio::time::timeout(WAKE_UP_TIMEOUT, notification).await.unwrap();
    }
}

#[tokio::test]
async fn all_waiters_of_a_client_share_one_connection_and_one_subscription() {
    let (server, proxy, mine) = started().await;
    let subscriptions = proxy.tally(Flow::Requests, || Occurrences::of("SUBSCRIBE\r\n"));
    let before = proxy.counts().connections;
    let mut waiters = tokio::task::JoinSet::new();
    for waiter in 0..50 {
        let mine = mine.clone();
        let text = if waiter % 2 == 0 { "even" } else { "odd" };
        waiters.spawn(async move { subscribed(&mine, text).await });
    }
    waiters.join_all().await;
    assert_eq!(proxy.counts().connections, before + 1);
    assert_eq!(subscriptions.total(), 2, "one for each key");
    assert_eq!(subscribers(&server, "even").await, "1");
}

#[tokio::test]
async fn a_channel_is_unsubscribed_some_time_after_its_last_waiter() {
    let (server, _proxy, mine) = started().await;
    subscribed(&mine, "job").await;
    assert_eq!(subscribers(&server, "job").await, "1", "it lingers");
    eventually("the channel is left", async || subscribers(&server, "job").await == "0").await;
    subscribed(&mine, "job").await;
    assert_eq!(subscribers(&server, "job").await, "1", "and subscribed to again");
}

#[tokio::test]
async fn waiters_are_woken_by_a_reconnect_and_resubscribed() {
    let (server, proxy, mine) = started().await;
    subscribed(&mine, "job").await;
    let job = key("job");
    let mut notification = pin!(mine.released(&job));
    assert!(is_pending(&mut notification).await);
    assert!(proxy.cut_all().await > 1, "the subscription is gone");
    tokio::time::timeout(WAKE_UP_TIMEOUT, notification).await.unwrap();
    assert_eq!(subscribers(&server, "job").await, "1");
    let theirs = connect(&server.url()).await;
    let request = ask("job", LONG);
    granted(&theirs, &request).await;
    let mut notification = pin!(mine.released(&job));
    assert!(is_pending(&mut notification).await);
    assert!(released(&theirs, &request).await);
    tokio::time::timeout(WAKE_UP_TIMEOUT, notification).await.unwrap();
}

/// The listener belongs to the backend's runtime.
#[test]
fn the_subscription_outlives_the_runtime_of_the_first_waiter() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let (first, second) = (runtime(), runtime());
    let (server, proxy, mine) = second.block_on(started());
    first.block_on(subscribed(&mine, "job"));
    let connections = proxy.counts().connections;
    drop(first);
    second.block_on(async {
        let job = key("job");
        let mut notification = pin!(mine.released(&job));
        assert!(is_pending(&mut notification).await, "it is subscribed to, which is no news");
        assert_eq!(subscribers(&server, "job").await, "1");
        server.command(&["PUBLISH", "syncguard:job:released", ""]).await.unwrap();
        tokio::time::timeout(WAKE_UP_TIMEOUT, notification).await.unwrap();
        assert_eq!(proxy.counts().connections, connections, "over the same connection");
    });
}

/// The holder does not publish, as with TypeScript clients, or its user may not.
#[tokio::test]
async fn an_unpublished_release_is_found_by_the_retry_schedule() {
    let (server, _proxy, mine) = started().await;
    let theirs = connect(&server.url()).await;
    granted(&theirs, &ask("job", LONG)).await;
    let locks = LockManager::new(mine);
    let wait = tokio::spawn(locks.lock("job").wait(LONG).acquire());
    eventually("the waiter is subscribed", async || subscribers(&server, "job").await == "1").await;
    server.command(&["DEL", "syncguard:job"]).await.unwrap();
    let guard = tokio::time::timeout(WAKE_UP_TIMEOUT, wait).await.unwrap().unwrap().unwrap();
    assert_eq!(guard.fence().unwrap().number(), 2);
}

/// More messages than the driver buffers are published. A release among the missed messages must
/// still wake its waiter.
#[tokio::test]
async fn a_flood_of_messages_loses_no_waiter() {
    let (heard, _hearing) = EventCounter::install("missed");
    let (server, _proxy, mine) = started().await;
    let theirs = connect(&server.url()).await;
    subscribed(&mine, "job").await;
    subscribed(&mine, "noise").await;
    let job = key("job");
    let flood = "for i = 1, 20000 do redis.call('PUBLISH', 'syncguard:noise:released', '') end";
    eventually("messages are missed", async || {
        let request = ask("job", LONG);
        granted(&theirs, &request).await;
        let mut notification = pin!(mine.released(&job));
        assert!(is_pending(&mut notification).await);
        server.command(&["EVAL", flood, "0"]).await.unwrap();
        assert!(released(&theirs, &request).await);
        server.command(&["EVAL", flood, "0"]).await.unwrap();
        tokio::time::timeout(WAKE_UP_TIMEOUT, notification).await.unwrap();
        heard.count() > 0
    })
    .await;
}
