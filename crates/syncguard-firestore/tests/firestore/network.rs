//! A server that cannot be reached, and one that does not answer.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use firestore_emulator::{Emulator, Fault, Rpc};
use syncguard_core::{ErrorKind, backend::LockBackend};
use syncguard_firestore::{FirestoreBackend, FirestoreConfig};
use syncguard_testkit::{
    operations::{
        LONG, ask, error_of, eventually, extended, granted, is_locked, lock_of, released, ttl,
    },
    proxy::Proxy,
};

use crate::{PROJECT, config, config_at, connect, start};

const SHORT_TIMEOUT: Duration = Duration::from_secs(3);

fn connect_with_short_timeout(emulator: &Emulator) -> FirestoreBackend {
    FirestoreBackend::connect(config(emulator).request_timeout(SHORT_TIMEOUT)).unwrap()
}

/// Returns an address on which no server listens.
async fn unused_address() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn a_request_to_a_server_that_cannot_be_reached_was_not_applied() {
    let address = unused_address().await;
    let backend =
        FirestoreBackend::connect(FirestoreConfig::new(PROJECT).emulator(&address)).unwrap();
    for _ in 0..3 {
        let error = backend.acquire(&ask("job", LONG)).await;
        let error = error_of(error, ErrorKind::ServiceUnavailable);
        assert!(!error.may_have_applied() && error.is_retryable(), "{error:?}");
        assert!(error.to_string().contains(&address), "{error}");
    }
    let error = backend.release(&lock_of(&ask("job", LONG))).await;
    assert!(!error_of(error, ErrorKind::ServiceUnavailable).may_have_applied());
}

#[tokio::test]
async fn a_request_that_finds_no_connection_was_not_sent() {
    let mut emulator = start().await;
    let backend = connect(&emulator);
    let request = ask("job", LONG);
    granted(&backend, &request).await;
    emulator.stop().await;
    eventually("the driver has noticed", async || {
        let error = backend.extend(&lock_of(&request), ttl(LONG)).await.unwrap_err();
        error.kind() == ErrorKind::ServiceUnavailable && !error.may_have_applied()
    })
    .await;
    emulator.restart().await.unwrap();
    eventually("the client serves again", async || backend.is_locked(&request.key).await.is_ok())
        .await;
    assert!(released(&backend, &request).await);
}

#[tokio::test]
async fn a_request_without_a_reply_times_out() {
    let emulator = start().await;
    let backend = connect_with_short_timeout(&emulator);
    let silence = emulator.inject(Fault::silence().on(Rpc::BatchGetDocuments));
    let started = tokio::time::Instant::now();
    let error = backend.acquire(&ask("job", LONG)).await;
    let error = error_of(error, ErrorKind::NetworkTimeout);
    assert!(!error.may_have_applied(), "it only read: {error:?}");
    assert!(started.elapsed() < 10 * SHORT_TIMEOUT, "{:?}", started.elapsed());
    assert_eq!(silence.hits(), 1);
    let silence = emulator.inject(Fault::silence());
    let request = ask("job", LONG);
    assert_eq!(granted(&backend, &request).await.fence.number(), 1, "a look tells");
    assert_eq!(silence.hits(), 1);
}

#[tokio::test]
async fn a_commit_whose_outcome_cannot_be_read_may_have_applied() {
    let emulator = start().await;
    let backend = connect_with_short_timeout(&emulator);
    let (silence, held) = (emulator.inject(Fault::silence()), Fault::hold().document("job"));
    let held = emulator.inject(held);
    let request = ask("job", LONG);
    let acquiring = async {
        error_of(backend.acquire(&request).await, ErrorKind::NetworkTimeout).may_have_applied()
    };
    let then = async {
        held.happened(1).await;
        let unanswered_read = emulator.inject(Fault::silence().on(Rpc::BatchGetDocuments));
        held.release();
        unanswered_read
    };
    let (unknown, unanswered_read) = tokio::join!(acquiring, then);
    assert_eq!((unknown, silence.hits(), unanswered_read.hits()), (true, 1, 1));
    assert!(is_locked(&backend, "job").await, "it was granted all the same");
    assert_eq!(granted(&backend, &request).await.fence.number(), 1, "asking again tells");
}

#[tokio::test]
async fn the_client_recovers_from_a_network_that_drops_all_replies() {
    let emulator = start().await;
    let proxy = Proxy::start(emulator.address()).await.unwrap();
    let proxied = config_at(proxy.address());
    let backend = FirestoreBackend::connect(proxied.request_timeout(SHORT_TIMEOUT)).unwrap();
    let request = ask("job", LONG);
    granted(&backend, &request).await;
    proxy.black_hole(syncguard_testkit::proxy::Flow::Replies);
    let error = backend.extend(&lock_of(&request), ttl(LONG)).await;
    let error = error_of(error, ErrorKind::NetworkTimeout);
    assert!(proxy.counts().swallowed > 0 && error.may_have_applied(), "{error:?}");
    proxy.heal().await.unwrap();
    proxy.cut_all().await;
    eventually("the client serves again", async || {
        backend.extend(&lock_of(&request), ttl(LONG)).await.is_ok()
    })
    .await;
    assert!(released(&backend, &request).await);
}

/// If a request ran in the task of its caller, it would keep its place on the connection.
#[tokio::test]
async fn futures_that_are_no_longer_polled_block_no_others() {
    let emulator = start().await;
    let backend = connect(&emulator);
    granted(&backend, &ask("job", LONG)).await;
    let requests: Vec<_> = (0..200).map(|_| ask("job", LONG)).collect();
    let mut unpolled = Vec::new();
    for request in &requests {
        let mut acquire = Box::pin(backend.acquire(request));
        let pending = poll_fn(|cx| Poll::Ready(acquire.as_mut().poll(cx).is_pending())).await;
        assert!(pending, "it is on its way");
        unpolled.push(acquire);
    }
    let other = ask("other", LONG);
    let operations = async {
        granted(&backend, &other).await;
        assert!(extended(&backend, &other).await && released(&backend, &other).await);
    };
    tokio::time::timeout(Duration::from_secs(20), operations).await.unwrap();
}

#[tokio::test]
async fn an_acquire_that_is_dropped_before_its_commit_does_not_commit() {
    let emulator = start().await;
    let backend = connect(&emulator);
    let request = ask("job", LONG);
    let slow = emulator.inject(Fault::hold().on(Rpc::BatchGetDocuments));
    {
        let mut acquire = pin!(backend.acquire(&request));
        tokio::select! {
            _ = &mut acquire => panic!("its read is held"),
            () = slow.happened(1) => {}
        }
    }
    slow.release();
    tokio::time::sleep(SHORT_TIMEOUT).await;
    assert_eq!(emulator.calls().of(Rpc::Commit), 0);
    assert_eq!(granted(&backend, &ask("job", LONG)).await.fence.number(), 1);
}
