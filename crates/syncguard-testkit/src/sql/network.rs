//! Network failures.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::{pin::pin, task::Poll, time::Duration};

use syncguard_core::{
    ErrorKind, LockManager, TryAcquireOutcome,
    backend::{AcquireOutcome, ListRequest, LockBackend},
};
use tokio::{runtime::Runtime, task::JoinSet, time::sleep};

use super::{Foreign, SHORT_TIMEOUT, Setting, Tables};
use crate::{
    operations::{
        LONG, ask, error_of, eventually, extended, granted, is_contended, is_locked, key, lock_of,
        released, ttl,
    },
    proxy::{Flow, Proxy, Times, containing},
    server::Site,
};

/// A shared server, a faulty connection to it, and tables on it.
#[derive(Debug)]
pub struct Network<T: Tables> {
    /// The server.
    pub server: Site<T::Program>,
    /// The connection.
    pub proxy: Proxy,
    /// The tables.
    pub tables: T,
}

impl<T: Tables> Network<T> {
    /// Starts a proxy in front of the shared server.
    pub async fn up() -> Self {
        let server = T::shared().await;
        let proxy = Proxy::start(server.address()).await.unwrap();
        Self { server, proxy, tables: T::fresh() }
    }

    /// Returns the URL of the proxy.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url_through(self.proxy.address())
    }

    /// Connects through the proxy.
    pub async fn open(&self, settings: &[Setting]) -> T::Backend {
        T::open(self.tables.config(&self.url(), settings)).await.unwrap()
    }

    /// Connects to the server itself.
    pub async fn past_the_proxy(&self) -> T::Backend {
        self.tables.connect(&self.server.url()).await
    }

    /// Counts the held locks.
    async fn held(&self) -> i64 {
        let sql = self.tables.fill("SELECT COUNT(*) FROM {locks} WHERE expires_at_ms > 0");
        T::Foreign::open(&self.server.url()).await.number(&sql).await
    }
}

/// Runs each operation ten times, and returns how many operations that were.
pub async fn run_each_operation(backend: &impl LockBackend) -> u64 {
    let mut operations = 0;
    for _ in 0..10 {
        let request = ask("job", LONG);
        granted(backend, &request).await;
        assert!(is_contended(backend, "job").await);
        assert!(extended(backend, &request).await && is_locked(backend, "job").await);
        assert!(backend.lookup(&request.lock_id.into()).await.unwrap().is_some());
        assert!(released(backend, &request).await);
        backend.abandon(request.lock_id, &request.key).await.unwrap();
        backend.list(&ListRequest::new("")).await.unwrap();
        assert!(backend.force_release(&request.key).await.unwrap().is_none());
        operations += 9;
    }
    operations
}

/// A driver that repeats a statement whose answer was lost would grant twice. A client that takes
/// its own lock for that of another holder would never get it.
///
/// `marker` returns bytes that the acquire of a key contains, and its abandon does not.
pub async fn lost_answers_yield_a_grant_each_and_leave_no_lock<T: Tables>(
    grants: u32,
    marker: fn(&str) -> String,
) {
    const CLIENTS: u32 = 4;
    let network = Network::<T>::up().await;
    network.open(&[]).await;
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let proxy = Proxy::start(network.server.address()).await.unwrap();
        let url = network.server.url_through(proxy.address());
        let locks = LockManager::new(network.tables.connect(&url).await);
        clients.spawn(async move {
            let text = format!("client {client}");
            for round in 1..=grants / CLIENTS {
                proxy.cut_after(containing(marker(&text)), Times::Next(1));
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
    assert_eq!(cuts.iter().sum::<u64>(), u64::from(grants), "each answer was lost");
    assert_eq!(network.held().await, 0, "nothing is left behind");
}

/// A statement without an answer ends, and its outcome is unknown.
pub async fn a_statement_without_an_answer_ends_and_its_outcome_is_unknown<T: Tables>() {
    let network = Network::<T>::up().await;
    let backend = network.open(&[Setting::StatementTimeout(SHORT_TIMEOUT)]).await;
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
    assert_eq!(grant.fence.number(), 1, "acquiring again returns the stored grant");
}

/// An operation without a connection is reported as not applied.
pub async fn an_operation_without_a_connection_is_reported_as_not_applied<T: Tables>() {
    let network = Network::<T>::up().await;
    let settings = [Setting::ConnectTimeout(SHORT_TIMEOUT)];
    let backend = network.open(&settings).await;
    network.proxy.refuse().await;
    assert!(network.proxy.cut_all().await > 0, "it is disconnected");
    eventually("the backend has noticed", async || {
        let error = backend.acquire(&ask("job", LONG)).await.unwrap_err();
        error.kind() == ErrorKind::ServiceUnavailable && !error.may_have_applied()
    })
    .await;
    let connected = T::open(network.tables.config(&network.url(), &settings)).await;
    let error = error_of(connected.map(drop), ErrorKind::ServiceUnavailable);
    assert!(!error.may_have_applied() && error.is_retryable(), "{error:?}");
    network.proxy.admit().await.unwrap();
    assert_eq!(granted(&backend, &ask("job", LONG)).await.fence.number(), 1);
}

/// A lookup over a connection that was lost is sent again.
pub async fn a_lookup_over_a_connection_that_was_lost_is_sent_again<T: Tables>() {
    let network = Network::<T>::up().await;
    let backend = network.open(&[]).await;
    granted(&backend, &ask("job", LONG)).await;
    assert!(network.proxy.cut_all().await > 0, "it is disconnected");
    assert!(is_locked(&backend, "job").await);
}

/// The acquire arrives long after its abandon, which takes a faster connection.
pub async fn an_abandon_that_overtakes_its_acquire_leaves_no_ghost_in_300_attempts<T: Tables>() {
    const ATTEMPTS: usize = 300;
    let network = Network::<T>::up().await;
    let (slow, fast) = (network.open(&[]).await, network.past_the_proxy().await);
    granted(&slow, &ask("warm-up", LONG)).await;
    network.proxy.delay(Duration::from_millis(5));
    let (mut overtaken, mut ghosts) = (0, 0);
    for round in 0..ATTEMPTS {
        let request = ask(&format!("k{round}"), LONG);
        let (acquired, abandoned) =
            tokio::join!(slow.acquire(&request), fast.abandon(request.lock_id, &request.key));
        abandoned.unwrap();
        overtaken += usize::from(acquired.is_err_and(|error| error.kind() == ErrorKind::Aborted));
        ghosts += usize::from(is_locked(&fast, request.key.as_str()).await);
    }
    assert!(overtaken > ATTEMPTS / 2, "it was overtaken in {overtaken} rounds");
    assert_eq!(ghosts, 0);
}

/// An acquire that is dropped before it has a connection is never sent.
pub async fn an_acquire_that_is_dropped_before_it_has_a_connection_is_never_sent<T: Tables>() {
    let network = Network::<T>::up().await;
    let backend = network.open(&[Setting::MaxConnections(2)]).await;
    granted(&backend, &ask("warm-up", LONG)).await;
    network.proxy.delay(Duration::from_millis(50));
    let busy = tokio::spawn({
        let backend = backend.clone();
        async move { is_locked(&backend, "other").await }
    });
    sleep(Duration::from_millis(10)).await;
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
    sleep(Duration::from_millis(200)).await;
    assert_eq!(granted(&backend, &ask("job", LONG)).await.fence.number(), 1, "it was never sent");
}

/// A future that is not polled again after its first poll must not block a connection.
pub async fn a_future_that_is_no_longer_polled_holds_no_connection<T: Tables>() {
    let network = Network::<T>::up().await;
    let backend = network.open(&[Setting::MaxConnections(2)]).await;
    let (request, job) = (ask("job", LONG), key("job"));
    let mut left_alone = pin!(backend.acquire(&request));
    let first =
        std::future::poll_fn(|context| Poll::Ready(left_alone.as_mut().poll(context).is_pending()));
    assert!(first.await, "it is in flight");
    eventually("it was granted meanwhile", async || backend.is_locked(&job).await.unwrap()).await;
    let outcome = backend.extend(&lock_of(&request), ttl(LONG)).await.unwrap();
    assert!(matches!(outcome, syncguard_core::backend::ExtendOutcome::Extended { .. }));
}

/// Its connections are driven by the runtime on which it was opened, whichever runtime calls it.
pub fn a_backend_belongs_to_the_runtime_that_it_was_opened_on<T: Tables>() {
    let runtime = || Runtime::new().unwrap();
    let (first, second) = (runtime(), runtime());
    let server = second.block_on(T::shared());
    let backend = first.block_on(T::fresh().connect(&server.url()));
    let request = ask("job", LONG);
    second.block_on(granted(&backend, &request));
    // A runtime that calls the backend holds nothing that another runtime needs.
    drop(second);
    assert!(first.block_on(extended(&backend, &request)));
    drop(first);
    let third = runtime();
    let error = third.block_on(backend.extend(&lock_of(&request), ttl(LONG)));
    let error = error_of(error, ErrorKind::Internal);
    assert!(!error.may_have_applied() && !error.is_retryable(), "{error:?}");
    assert!(error.to_string().contains("runtime"), "{error}");
}
