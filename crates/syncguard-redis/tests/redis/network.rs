//! A network that fails.

use std::{future::Future, pin::pin, task::Poll, time::Duration};

use syncguard_core::{ErrorKind, LockManager, TryAcquireOutcome, backend::LockBackend};
use syncguard_redis::RedisBackend;
use syncguard_testkit::{
    operations::{LONG, ask, error_of, eventually, extended, granted, is_locked, key, released},
    proxy::{Flow, Occurrences, Proxy, Times, containing},
    server::RedisServer,
};

use crate::{config, connect, safe};

const SHORT_TIMEOUT: Duration = Duration::from_millis(300);

async fn behind_a_proxy() -> (RedisServer, Proxy, String) {
    let server = safe().start().await.unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let url = server.url_through(proxy.address());
    (server, proxy, url)
}

/// A driver that resends a script whose reply was lost would grant twice, and a client that takes
/// its own lock for another holder's would never acquire it.
#[tokio::test]
async fn a_thousand_lost_replies_yield_a_thousand_grants_with_one_fence_each() {
    const CLIENTS: u32 = 4;
    const ROUNDS: u32 = 250;
    let server = safe().start().await.unwrap();
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let proxy = Proxy::start(server.address()).await.unwrap();
        let locks = LockManager::new(connect(&server.url_through(proxy.address())).await);
        clients.spawn(async move {
            // Acquires name the counter. Abandons, which may be sent a round later, do not.
            let counter = format!("fence:syncguard:k{client}");
            for round in 1..=ROUNDS {
                proxy.cut_after(containing(counter.as_str()), Times::Next(1));
                let attempt = locks.lock(format!("k{client}")).ttl(LONG).try_acquire().await;
                let TryAcquireOutcome::Acquired(guard) = attempt.unwrap() else {
                    panic!("contended")
                };
                assert_eq!(guard.fence().unwrap().number(), u64::from(round));
                guard.release().await.unwrap();
            }
            proxy.counts().cut_after
        });
    }
    let cuts = clients.join_all().await;
    assert_eq!(cuts.iter().sum::<u64>(), u64::from(CLIENTS * ROUNDS), "each reply was lost");
    // An id that was abandoned after a lost reply leaves an empty entry, its tombstone.
    let held = r"local held = 0 for _, name in ipairs(redis.call('KEYS', '*')) do
        if not name:find('^syncguard:fence:') and redis.call('GET', name) ~= '' then held = held + 1 end
        end return held";
    assert_eq!(server.command(&["EVAL", held, "0"]).await.unwrap(), "0", "nothing is left behind");
}

#[tokio::test]
async fn a_command_without_a_reply_times_out_with_an_unknown_outcome() {
    let (server, proxy, url) = behind_a_proxy().await;
    let backend = RedisBackend::connect(config(&url).command_timeout(SHORT_TIMEOUT)).await.unwrap();
    granted(&backend, &ask("warm-up", LONG)).await;
    let request = ask("job", LONG);
    proxy.black_hole(Flow::Replies);
    let error = backend.acquire(&request).await.unwrap_err();
    assert!(proxy.counts().swallowed > 0, "the reply was lost");
    assert!(error.may_have_applied() && error.is_retryable(), "{error:?}");
    let stored = server.command(&["EXISTS", "syncguard:job"]).await.unwrap();
    assert_eq!(stored, "1", "it was granted all the same");
    proxy.heal().await.unwrap();
    proxy.cut_all().await;
    eventually("asking again gives the stored grant", async || {
        backend.acquire(&request).await.is_ok_and(|outcome| {
            matches!(outcome, syncguard_core::backend::AcquireOutcome::Granted(grant) if grant.fence.number() == 1)
        })
    })
    .await;
}

/// While disconnected, the driver keeps a command whose future was dropped, and sends it after the
/// reconnect.
#[tokio::test]
async fn an_acquire_that_is_dropped_while_disconnected_is_not_sent_after_the_reconnect() {
    for pause in [Duration::ZERO, Duration::from_millis(150)] {
        let (_server, proxy, url) = behind_a_proxy().await;
        let backend =
            RedisBackend::connect(config(&url).command_timeout(SHORT_TIMEOUT)).await.unwrap();
        proxy.refuse().await;
        assert!(proxy.cut_all().await > 0, "it is disconnected");
        // Without a pause, the driver has not noticed yet; after one, it is trying to connect.
        tokio::time::sleep(pause).await;
        {
            let request = ask("job", LONG);
            let mut acquire = pin!(backend.acquire(&request));
            let first = std::future::poll_fn(|context| {
                Poll::Ready(acquire.as_mut().poll(context).is_pending())
            });
            assert!(first.await, "it is on its way when it is dropped");
        }
        tokio::time::sleep(2 * SHORT_TIMEOUT).await;
        proxy.admit().await.unwrap();
        eventually("the client serves again", async || {
            backend.is_locked(&key("job")).await.is_ok()
        })
        .await;
        tokio::time::sleep(SHORT_TIMEOUT).await;
        assert_eq!(
            granted(&backend, &ask("job", LONG)).await.fence.number(),
            1,
            "it was never sent"
        );
    }
}

#[tokio::test]
async fn a_request_without_a_connection_was_certainly_not_sent() {
    let (_server, proxy, url) = behind_a_proxy().await;
    let backend = RedisBackend::connect(config(&url).command_timeout(SHORT_TIMEOUT)).await.unwrap();
    proxy.refuse().await;
    assert!(proxy.cut_all().await > 0, "it is disconnected");
    eventually("the driver has noticed", async || {
        let error = backend.acquire(&ask("job", LONG)).await.unwrap_err();
        error.kind() == ErrorKind::ServiceUnavailable && !error.may_have_applied()
    })
    .await;
    proxy.admit().await.unwrap();
    eventually("the client serves again", async || {
        backend.acquire(&ask("job", LONG)).await.is_ok()
    })
    .await;
}

/// The abandon uses another connection than its acquire, and is faster.
#[tokio::test]
async fn an_abandon_that_overtakes_its_acquire_leaves_no_lock_in_300_rounds() {
    const ROUNDS: usize = 300;
    let (server, proxy, url) = behind_a_proxy().await;
    let (slow, fast) = (connect(&url).await, connect(&server.url()).await);
    granted(&slow, &ask("warm-up", LONG)).await;
    proxy.delay(Duration::from_millis(5));
    let (mut overtaken, mut ghosts) = (0, 0);
    for round in 0..ROUNDS {
        let request = ask(&format!("k{round}"), LONG);
        let (acquired, abandoned) =
            tokio::join!(slow.acquire(&request), fast.abandon(request.lock_id, &request.key));
        abandoned.unwrap();
        overtaken += usize::from(acquired.is_err_and(|error| error.kind() == ErrorKind::Aborted));
        ghosts += usize::from(is_locked(&fast, request.key.as_str()).await);
    }
    assert!(overtaken > ROUNDS / 2, "it was overtaken in {overtaken} rounds");
    assert_eq!(ghosts, 0);
}

#[tokio::test]
async fn scripts_that_are_flushed_under_load_are_sent_again() {
    let (server, proxy, url) = behind_a_proxy().await;
    let backend = connect(&url).await;
    let bodies = proxy.tally(Flow::Requests, || Occurrences::of("\r\nEVAL\r\n"));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let backend = backend.clone();
        tasks.spawn(async move {
            for _ in 0..200 {
                let request = ask(&format!("k{task}"), LONG);
                granted(&backend, &request).await;
                assert!(extended(&backend, &request).await && released(&backend, &request).await);
            }
        });
    }
    let flushing = async {
        let mut flushes = 0;
        while flushes < 50 {
            server.command(&["SCRIPT", "FLUSH"]).await.unwrap();
            flushes += 1;
        }
    };
    let (_, ()) = tokio::join!(tasks.join_all(), flushing);
    assert!(bodies.total() > 3, "the scripts were forgotten and sent again");
    assert_eq!(granted(&backend, &ask("k0", LONG)).await.fence.number(), 201);
}

#[tokio::test]
async fn an_unreachable_server_is_unavailable_and_nothing_was_sent() {
    let (_server, proxy, url) = behind_a_proxy().await;
    proxy.refuse().await;
    let error = error_of(RedisBackend::connect(config(&url)).await, ErrorKind::ServiceUnavailable);
    assert!(!error.may_have_applied() && error.is_retryable(), "{error:?}");
}

/// Two TLS providers in one program would cause a panic here.
#[tokio::test]
async fn a_tls_address_of_a_plain_server_is_an_error() {
    let server = safe().start().await.unwrap();
    let url = server.url().replace("redis://", "rediss://");
    let error = error_of(RedisBackend::connect(config(&url)).await, ErrorKind::ServiceUnavailable);
    assert!(!error.may_have_applied(), "{error:?}");
}
