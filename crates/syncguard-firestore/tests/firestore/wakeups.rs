//! Waiters that are notified when a lock ends.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use firestore_emulator::{Emulator, Fault, Rpc};
use gcloud_sdk::tonic::Code;
use syncguard_core::{LockManager, backend::LockBackend};
use syncguard_firestore::FirestoreBackend;
use syncguard_testkit::{
    operations::{LONG, ask, extended, granted, key, released},
    proxy::Proxy,
};

use crate::{config_at, connect, raw::Raw, start};

/// The maximum time until a waiter is notified. Without a notification it would wait forever.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(20);

async fn started() -> (Emulator, Proxy, FirestoreBackend) {
    let emulator = start().await;
    let proxy = Proxy::start(emulator.address()).await.unwrap();
    let mine = FirestoreBackend::connect(config_at(proxy.address())).unwrap();
    (emulator, proxy, mine)
}

/// Polls once, which subscribes, and returns whether there is no notification yet.
pub(crate) async fn is_pending(notified: &mut Pin<&mut (impl Future<Output = ()> + Send)>) -> bool {
    poll_fn(|context| Poll::Ready(notified.as_mut().poll(context).is_pending())).await
}

/// Waits until the stream listens to the document, which counts as a notification.
pub(crate) async fn subscribed(backend: &FirestoreBackend, text: &str) {
    tokio::time::timeout(NOTIFY_TIMEOUT, backend.released(&key(text))).await.unwrap();
}

#[tokio::test]
async fn a_waiter_is_notified_by_the_release_of_another_client_and_not_before() {
    let (emulator, _proxy, mine) = started().await;
    let theirs = connect(&emulator);
    let request = ask("job", LONG);
    granted(&theirs, &request).await;
    subscribed(&mine, "job").await;
    let job = key("job");
    let mut notified = pin!(mine.released(&job));
    for _ in 0..20 {
        assert!(is_pending(&mut notified).await, "nothing was released");
        assert!(extended(&theirs, &request).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(released(&theirs, &request).await);
    tokio::time::timeout(NOTIFY_TIMEOUT, notified).await.unwrap();
}

#[tokio::test]
async fn a_subscription_is_active_once_the_stream_listens_and_not_after_the_stream_is_lost() {
    let (_emulator, proxy, mine) = started().await;
    let job = key("job");
    let mut confirmed = pin!(mine.released(&job));
    assert!(is_pending(&mut confirmed).await && !mine.is_subscribed(&job));
    tokio::time::timeout(NOTIFY_TIMEOUT, confirmed).await.unwrap();
    assert!(mine.is_subscribed(&job) && !mine.is_subscribed(&key("another")));
    proxy.refuse().await;
    proxy.cut_all().await;
    while mine.is_subscribed(&job) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn every_way_to_end_a_lock_notifies_its_waiters() {
    let (emulator, _proxy, mine) = started().await;
    let (theirs, raw) = (connect(&emulator), Raw::connect(&emulator));
    subscribed(&mine, "job").await;
    let job = key("job");
    for way in ["by force", "by calling off", "by hand, as another client does"] {
        let request = ask("job", LONG);
        granted(&theirs, &request).await;
        let mut notified = pin!(mine.released(&job));
        assert!(is_pending(&mut notified).await);
        match way {
            "by force" => assert!(theirs.force_release(&job).await.unwrap().is_some()),
            "by calling off" => theirs.abandon(request.lock_id, &job).await.unwrap(),
            _ => raw.delete("locks/job").await,
        }
        tokio::time::timeout(NOTIFY_TIMEOUT, notified).await.expect(way);
    }
}

#[tokio::test]
async fn all_waiters_of_a_client_share_one_connection_and_one_stream() {
    let (emulator, proxy, mine) = started().await;
    granted(&mine, &ask("even", LONG)).await;
    let before = proxy.counts().connections;
    let mut waiters = tokio::task::JoinSet::new();
    for waiter in 0..50 {
        let mine = mine.clone();
        let text = if waiter % 2 == 0 { "even" } else { "odd" };
        waiters.spawn(async move { subscribed(&mine, text).await });
    }
    waiters.join_all().await;
    // A key that had no waiter when the stream was opened.
    subscribed(&mine, "later").await;
    assert_eq!(proxy.counts().connections, before, "the one that is there");
    assert_eq!(emulator.calls().of(Rpc::Listen), 1, "one for all keys");
}

#[tokio::test]
async fn waiters_are_notified_by_a_new_stream_and_listen_on_it() {
    let (emulator, proxy, mine) = started().await;
    subscribed(&mine, "job").await;
    let job = key("job");
    let mut notified = pin!(mine.released(&job));
    assert!(is_pending(&mut notified).await);
    assert!(proxy.cut_all().await > 0, "the stream is gone");
    tokio::time::timeout(NOTIFY_TIMEOUT, notified).await.unwrap();
    assert!(emulator.calls().of(Rpc::Listen) > 1);
    let theirs = connect(&emulator);
    let request = ask("job", LONG);
    granted(&theirs, &request).await;
    let mut notified = pin!(mine.released(&job));
    assert!(is_pending(&mut notified).await);
    assert!(released(&theirs, &request).await);
    tokio::time::timeout(NOTIFY_TIMEOUT, notified).await.unwrap();
}

/// A stream may be refused, or opened and then refused, or opened and then silent.
#[tokio::test]
async fn a_waiter_without_a_stream_follows_its_schedule() {
    let refused = Code::PermissionDenied;
    for fault in [Fault::refuse(refused), Fault::answer(refused), Fault::silence()] {
        let emulator = start().await;
        let (mine, theirs) = (connect(&emulator), connect(&emulator));
        let fault = emulator.inject(fault.on(Rpc::Listen).times(1_000));
        let request = ask("job", LONG);
        granted(&theirs, &request).await;
        let locks = LockManager::new(mine);
        let wait = tokio::spawn(locks.lock("job").wait(LONG).acquire());
        fault.happened(1).await;
        assert!(released(&theirs, &request).await);
        let guard = tokio::time::timeout(NOTIFY_TIMEOUT, wait).await.unwrap().unwrap().unwrap();
        assert_eq!(guard.fence().unwrap().number(), 2);
    }
}

#[tokio::test]
async fn a_stream_that_fails_is_reopened_after_increasing_delays() {
    let emulator = start().await;
    let mine = connect(&emulator);
    let refused = Fault::answer(Code::PermissionDenied).on(Rpc::Listen).times(1_000);
    let refused = emulator.inject(refused);
    let job = key("job");
    let notified = tokio::time::timeout(Duration::from_secs(3), mine.released(&job)).await;
    assert!(notified.is_err(), "there was nothing to hear");
    assert!((2..15).contains(&refused.hits()), "{} attempts", refused.hits());
}

#[tokio::test]
async fn a_stream_closes_after_its_last_waiter_and_reopens_for_the_next() {
    let (emulator, _proxy, mine) = started().await;
    let theirs = connect(&emulator);
    subscribed(&mine, "job").await;
    // The sweeps, a second apart, take up to 12 s to find that the document has lingered.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let request = ask("job", LONG);
    granted(&theirs, &request).await;
    subscribed(&mine, "job").await;
    assert_eq!(emulator.calls().of(Rpc::Listen), 2, "the first one was given up");
    let job = key("job");
    let mut notified = pin!(mine.released(&job));
    assert!(is_pending(&mut notified).await);
    assert!(released(&theirs, &request).await);
    tokio::time::timeout(NOTIFY_TIMEOUT, notified).await.unwrap();
}
