//! A network that fails.

use std::{future::Future, pin::pin, task::Poll, time::Duration};

use syncguard_core::{AcquireOutcome, ErrorKind, LockBackend, LockManager, TryAcquireOutcome};
use syncguard_mysql::MysqlBackend;
use syncguard_testkit::{
    operations::{
        LONG, ask, error_of, eventually, extended, granted, is_contended, is_locked, key, lock_of,
        released, ttl,
    },
    proxy::{Flow, Occurrences, Proxy, Times, containing},
    server::{Mariadb, Shared},
};

use crate::{Foreign, Name, shared};

/// How a message with a text of statements begins: the end of its length, a number, the kind. Each is a
/// round trip.
const QUERY: &[u8] = b"\0\0\x03";

const SHORT_TIMEOUT: Duration = Duration::from_millis(300);

/// A shared server, a way to it that fails, and a table on it.
struct Network {
    server: Shared<Mariadb>,
    proxy: Proxy,
    name: Name,
}

impl Network {
    async fn up() -> Self {
        let server = shared().await;
        let proxy = Proxy::start(server.address().unwrap()).await.unwrap();
        Self { server, proxy, name: Name::fresh() }
    }

    fn url(&self) -> String {
        self.server.url_through(self.proxy.address())
    }

    async fn connect(&self) -> MysqlBackend {
        self.name.connect(&self.url()).await
    }

    async fn past_the_proxy(&self) -> MysqlBackend {
        self.name.connect(self.server.url()).await
    }

    /// Counts what is held.
    async fn held(&self) -> i64 {
        let sql = self.name.fill("SELECT COUNT(*) FROM {locks} WHERE expires_at_ms > 0");
        Foreign::open(self.server.url()).await.number(&sql).await
    }
}

/// Writes a text as it is sent.
fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02X}")).collect()
}

#[tokio::test]
async fn each_operation_is_one_round_trip() {
    let network = Network::up().await;
    let config = network.name.config(&network.url()).max_connections(2);
    let backend = MysqlBackend::connect(config).await.unwrap();
    let other = ask("other", LONG);
    granted(&backend, &other).await;
    let trips = network.proxy.tally(Flow::Requests, || Occurrences::of(QUERY));
    let mut operations = 0;
    for _ in 0..10 {
        let request = ask("job", LONG);
        granted(&backend, &request).await;
        assert!(is_contended(&backend, "job").await);
        assert!(extended(&backend, &request).await && is_locked(&backend, "job").await);
        assert!(backend.lookup(&request.lock_id.into()).await.unwrap().is_some());
        assert!(released(&backend, &request).await);
        backend.abandon(request.lock_id, &request.key).await.unwrap();
        backend.list(&syncguard_core::ListRequest::new("")).await.unwrap();
        assert!(backend.force_release(&request.key).await.unwrap().is_none());
        operations += 9;
    }
    assert_eq!(trips.total(), operations);
}

/// A driver that sends a statement again whose answer was lost grants twice, and one that sees its own
/// lock as somebody else's never gets it.
#[tokio::test]
async fn four_hundred_lost_answers_give_four_hundred_grants_and_leave_nothing() {
    const CLIENTS: u32 = 4;
    const ROUNDS: u32 = 100;
    let network = Network::up().await;
    network.connect().await;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let proxy = Proxy::start(network.server.address().unwrap()).await.unwrap();
        let url = network.server.url_through(proxy.address());
        let locks = LockManager::new(network.name.connect(&url).await);
        clients.spawn(async move {
            let text = format!("client {client}");
            for round in 1..=ROUNDS {
                proxy.cut_after(containing(hex(&text)), Times::Next(1));
                let attempt = locks.lock(&text).ttl(LONG).try_acquire().await;
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
    assert_eq!(cuts.iter().sum::<u64>(), u64::from(CLIENTS * ROUNDS), "each answer was lost");
    assert_eq!(network.held().await, 0, "nothing is left behind");
}

#[tokio::test]
async fn a_statement_without_an_answer_ends_and_its_outcome_is_unknown() {
    let network = Network::up().await;
    let config = network.name.config(&network.url()).statement_timeout(SHORT_TIMEOUT);
    let backend = MysqlBackend::connect(config).await.unwrap();
    granted(&backend, &ask("warm-up", LONG)).await;
    let request = ask("job", LONG);
    network.proxy.black_hole(Flow::Replies);
    let error = error_of(backend.acquire(&request).await, ErrorKind::NetworkTimeout);
    assert!(network.proxy.counts().swallowed > 0, "the answer was lost");
    assert!(error.may_have_applied() && error.is_retryable(), "{error:?}");
    assert!(is_locked(&network.past_the_proxy().await, "job").await, "it was granted all the same");
    network.proxy.heal().await.unwrap();
    let outcome = backend.acquire(&request).await.unwrap();
    let AcquireOutcome::Granted(grant) = outcome else { panic!("{outcome:?}") };
    assert_eq!(grant.fence.number(), 1, "asking again gives the stored grant");
}

#[tokio::test]
async fn without_a_connection_it_is_certain_that_nothing_was_sent() {
    let network = Network::up().await;
    let config = network.name.config(&network.url()).connect_timeout(SHORT_TIMEOUT);
    let backend = MysqlBackend::connect(config.clone()).await.unwrap();
    network.proxy.refuse().await;
    assert!(network.proxy.cut_all().await > 0, "it is disconnected");
    eventually("the backend has noticed", async || {
        let error = backend.acquire(&ask("job", LONG)).await.unwrap_err();
        error.kind() == ErrorKind::ServiceUnavailable && !error.may_have_applied()
    })
    .await;
    let error = error_of(MysqlBackend::connect(config).await, ErrorKind::ServiceUnavailable);
    assert!(!error.may_have_applied() && error.is_retryable(), "{error:?}");
    network.proxy.admit().await.unwrap();
    assert_eq!(granted(&backend, &ask("job", LONG)).await.fence.number(), 1);
}

#[tokio::test]
async fn a_lookup_over_a_connection_that_was_lost_is_sent_again() {
    let network = Network::up().await;
    let backend = network.connect().await;
    granted(&backend, &ask("job", LONG)).await;
    assert!(network.proxy.cut_all().await > 0, "it is disconnected");
    assert!(is_locked(&backend, "job").await);
}

/// The answer to the acquire is far behind its call-off, which takes another way and is faster.
#[tokio::test]
async fn a_clean_up_that_overtakes_its_acquire_leaves_no_ghost_in_300_rounds() {
    const ROUNDS: usize = 300;
    let network = Network::up().await;
    let (slow, fast) = (network.connect().await, network.past_the_proxy().await);
    granted(&slow, &ask("warm-up", LONG)).await;
    network.proxy.delay(Duration::from_millis(5));
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
async fn an_acquire_that_is_dropped_before_it_has_a_connection_is_never_sent() {
    let network = Network::up().await;
    let config = network.name.config(&network.url()).max_connections(2);
    let backend = MysqlBackend::connect(config).await.unwrap();
    granted(&backend, &ask("warm-up", LONG)).await;
    network.proxy.delay(Duration::from_millis(50));
    let busy = tokio::spawn({
        let backend = backend.clone();
        async move { is_locked(&backend, "other").await }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    {
        let request = ask("job", LONG);
        let mut acquire = pin!(backend.acquire(&request));
        let first = std::future::poll_fn(|context| {
            Poll::Ready(acquire.as_mut().poll(context).is_pending())
        });
        assert!(first.await, "it waits for the connection when it is dropped");
    }
    assert!(!busy.await.unwrap());
    network.proxy.heal().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(granted(&backend, &ask("job", LONG)).await.fence.number(), 1, "it was never sent");
}

/// A future that is left alone after its first poll keeps nobody from a connection.
#[tokio::test]
async fn a_future_that_is_not_polled_on_keeps_no_connection() {
    let network = Network::up().await;
    let config = network.name.config(&network.url()).max_connections(2);
    let backend = MysqlBackend::connect(config).await.unwrap();
    let (request, job) = (ask("job", LONG), key("job"));
    let mut left_alone = pin!(backend.acquire(&request));
    let first =
        std::future::poll_fn(|context| Poll::Ready(left_alone.as_mut().poll(context).is_pending()));
    assert!(first.await, "it is on its way");
    eventually("it was granted meanwhile", async || backend.is_locked(&job).await.unwrap()).await;
    let outcome = backend.extend(&lock_of(&request), ttl(LONG)).await.unwrap();
    assert!(matches!(outcome, syncguard_core::ExtendOutcome::Extended { .. }));
}

/// Its connections are driven by the runtime that it was opened on, whichever runtime asks.
#[test]
fn a_backend_belongs_to_the_runtime_that_it_was_opened_on() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let (first, second) = (runtime(), runtime());
    let server = second.block_on(shared());
    let backend = first.block_on(Name::fresh().connect(server.url()));
    let request = ask("job", LONG);
    second.block_on(granted(&backend, &request));
    // A runtime that asks holds nothing that another one needs.
    drop(second);
    assert!(first.block_on(extended(&backend, &request)));
    drop(first);
    let third = runtime();
    let error = third.block_on(backend.extend(&lock_of(&request), ttl(LONG)));
    let error = error_of(error, ErrorKind::Internal);
    assert!(!error.may_have_applied() && !error.is_retryable(), "{error:?}");
    assert!(error.to_string().contains("runtime"), "{error}");
}
