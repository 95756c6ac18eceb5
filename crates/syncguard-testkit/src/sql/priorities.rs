//! The order in which requests are served if there are few connections. It does not depend on
//! timing.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use syncguard_core::backend::{AcquireRequest, LockBackend};
use tokio::{
    task::{JoinSet, yield_now},
    time::sleep,
};

use super::{Foreign, Setting, Tables};
use crate::{
    operations::{LONG, ask, eventually, extended, granted, released},
    proxy::{Flow, Proxy},
    server::Site,
};

/// The maximum number of connections that the pool opens concurrently.
const MAX_CONCURRENT_OPENS: u64 = 3;

/// A backend with two connections, one of which is never used for acquires.
#[derive(Debug)]
pub struct Scarce<T: Tables> {
    /// The server.
    pub server: Site<T::Program>,
    /// The tables.
    pub tables: T,
    /// The backend.
    pub backend: T::Backend,
    /// A connection of the test.
    pub watch: T::Foreign,
    /// The operations that were answered, in order.
    log: Arc<Mutex<Vec<&'static str>>>,
    tasks: JoinSet<()>,
}

impl<T: Tables> Scarce<T> {
    /// Connects to the shared server.
    pub async fn new() -> Self {
        let (server, tables) = (T::shared().await, T::fresh());
        let settings = [
            Setting::MaxConnections(2),
            Setting::ConnectTimeout(LONG),
            Setting::StatementTimeout(LONG),
            Setting::LockTimeout(LONG),
            Setting::WithoutListening,
        ];
        let backend = T::open(tables.config(&server.url(), &settings)).await.unwrap();
        let watch = T::Foreign::open(&server.url()).await;
        let (log, tasks) = (Arc::default(), JoinSet::new());
        Self { server, tables, backend, watch, log, tasks }
    }

    /// Acquires a key.
    pub async fn acquire(&self, text: &str) -> AcquireRequest {
        let request = ask(text, LONG);
        granted(&self.backend, &request).await;
        request
    }

    /// Locks the row of a key, so that a write to it waits at the server.
    pub async fn block(&self, request: &AcquireRequest) -> T::Foreign {
        let mut foreign = T::Foreign::open(&self.server.url()).await;
        let key = request.key.as_str();
        let row = format!("SELECT 1 FROM {{locks}} WHERE {{key}} = '{key}' FOR UPDATE");
        foreign.run("BEGIN").await;
        foreign.run(&self.tables.fill(&row)).await;
        foreign
    }

    fn spawn_acquire(&mut self, request: AcquireRequest) {
        let backend = self.backend.clone();
        self.spawn_logged("acquire", async move { backend.acquire(&request).await.is_ok() });
    }

    fn spawn_release(&mut self, held: AcquireRequest) {
        let backend = self.backend.clone();
        self.spawn_logged("release", async move { released(&backend, &held).await });
    }

    fn spawn_extend(&mut self, held: AcquireRequest) {
        let backend = self.backend.clone();
        self.spawn_logged("extend", async move { extended(&backend, &held).await });
    }

    fn spawn_logged(
        &mut self,
        name: &'static str,
        work: impl Future<Output = bool> + Send + 'static,
    ) {
        let log = self.log.clone();
        self.tasks.spawn(async move {
            assert!(work.await, "{name}");
            log.lock().unwrap().push(name);
        });
    }

    /// Waits until this many statements wait at the server.
    async fn blocked(&mut self, count: i64) {
        let waiting = self.tables.fill(T::WAITING);
        let reached = async || self.watch.number(&waiting).await == count;
        eventually("statements wait", reached).await;
    }

    /// Checks for a while that no more statements than this wait.
    async fn stay_blocked(&mut self, count: i64) {
        for _ in 0..50 {
            self.blocked(count).await;
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn logged(&self, count: usize) -> Vec<&'static str> {
        let reached = async || self.log.lock().unwrap().len() >= count;
        eventually("all are answered", reached).await;
        self.log.lock().unwrap().clone()
    }

    /// Extends two grants. One after the other: extends that wait for a connection together may be
    /// one statement.
    async fn extend_blocked(&mut self, held: [AcquireRequest; 2]) {
        for (held, count) in held.into_iter().zip(1..) {
            self.spawn_extend(held);
            self.blocked(count).await;
        }
    }

    /// Uses both connections at the same time, and leaves them idle.
    async fn use_both_connections(&mut self) {
        let held = [self.acquire("one").await, self.acquire("other").await];
        let mut blocks = [self.block(&held[0]).await, self.block(&held[1]).await];
        self.extend_blocked(held).await;
        for block in &mut blocks {
            block.run("COMMIT").await;
        }
        self.logged(2).await;
        self.log.lock().unwrap().clear();
    }
}

/// Extends are sent before releases, and releases before acquires.
///
/// `check` receives the operations in the order of their answers: two extends, three releases and
/// three acquires. A busy client may see the answers in another order than that of the statements
/// at the server, which `check` may ask instead. Six locks were acquired before.
pub async fn extends_are_sent_before_releases_and_releases_before_acquires<T: Tables>(
    mut scarce: Scarce<T>,
    check: impl AsyncFnOnce(&mut Scarce<T>, &[&str]),
) {
    let [first, second] = [scarce.acquire("first").await, scarce.acquire("second").await];
    let kept = scarce.acquire("kept").await;
    let to_release =
        [scarce.acquire("a").await, scarce.acquire("b").await, scarce.acquire("c").await];
    let (mut first_block, mut second_block) =
        (scarce.block(&first).await, scarce.block(&second).await);
    scarce.extend_blocked([first, second]).await;
    for number in 0..3 {
        scarce.spawn_acquire(ask(&format!("wanted {number}"), LONG));
    }
    to_release.into_iter().for_each(|held| scarce.spawn_release(held));
    scarce.spawn_extend(kept);
    for _ in 0..100 {
        yield_now().await;
    }
    // One connection is free from now on.
    first_block.run("COMMIT").await;
    let answers = scarce.logged(8).await;
    check(&mut scarce, &answers).await;
    second_block.run("COMMIT").await;
    scarce.tasks.join_all().await;
}

/// An extend does not wait for acquires that hang.
///
/// `hold` makes acquires of a key wait at the server, until its connection commits.
pub async fn an_extend_does_not_wait_for_acquires_that_hang<T: Tables>(
    hold: impl AsyncFnOnce(&Scarce<T>, &str) -> T::Foreign,
) {
    let mut scarce = Scarce::new().await;
    let kept = scarce.acquire("kept").await;
    scarce.use_both_connections().await;
    let mut held = hold(&scarce, "wanted").await;
    for _ in 0..3 {
        scarce.spawn_acquire(ask("wanted", LONG));
    }
    scarce.stay_blocked(1).await;
    scarce.spawn_extend(kept);
    assert_eq!(scarce.logged(1).await, ["extend"], "an acquire gave its connection up first");
    held.run("COMMIT").await;
    scarce.tasks.join_all().await;
}

/// A thousand waiters open a few connections at a time.
pub async fn a_thousand_waiters_open_a_few_connections_at_a_time<T: Tables>() {
    let server = T::shared().await;
    let proxy = Proxy::start(server.address()).await.unwrap();
    let settings = [
        Setting::MaxConnections(100),
        Setting::ConnectTimeout(LONG),
        Setting::StatementTimeout(LONG),
        Setting::WithoutListening,
    ];
    let config = T::fresh().config(&server.url_through(proxy.address()), &settings);
    let backend = T::open(config).await.unwrap();
    let held = ask("job", LONG);
    granted(&backend, &held).await;
    let before = proxy.counts().connections;
    proxy.black_hole(Flow::Replies);
    let mut tasks = JoinSet::new();
    for _ in 0..1_000 {
        let (backend, held) = (backend.clone(), held.clone());
        tasks.spawn(async move { extended(&backend, &held).await });
    }
    proxy.until(|counts| counts.connections >= before + MAX_CONCURRENT_OPENS).await;
    // All other attempts that were begun at the same time have arrived by then.
    sleep(Duration::from_millis(100)).await;
    assert_eq!(proxy.counts().connections, before + MAX_CONCURRENT_OPENS);
}
