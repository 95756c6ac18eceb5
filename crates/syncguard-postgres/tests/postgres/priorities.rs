//! Who is served first where connections are few: order and counts, whatever the machine does.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use syncguard_core::{AcquireRequest, LockBackend};
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::{
    operations::{LONG, ask, eventually, extended, granted, released},
    proxy::{Flow, Proxy},
    server::PostgresServer,
};
use tokio::{
    task::{JoinSet, yield_now},
    time::sleep,
};

use crate::{Foreign, Names, queueing::hold_counter, shared};

/// How many connections the pool opens at a time.
const OPENED_AT_A_TIME: u64 = 3;

/// Two connections, one of which acquires never have.
struct Scarce {
    server: Arc<PostgresServer>,
    names: Names,
    backend: PostgresBackend,
    watch: Foreign,
    /// What has been answered, in order.
    log: Arc<Mutex<Vec<&'static str>>>,
    tasks: JoinSet<()>,
}

impl Scarce {
    async fn new() -> Self {
        let (server, names) = (shared().await, Names::fresh());
        let config = names.config(&server.url()).max_connections(2).without_listening();
        let config = config.connect_timeout(LONG).statement_timeout(LONG).lock_timeout(LONG);
        let backend = PostgresBackend::connect(config).await.unwrap();
        let watch = Foreign::open(&server.url()).await;
        let (log, tasks) = (Arc::default(), JoinSet::new());
        Self { server, names, backend, watch, log, tasks }
    }

    async fn hold(&self, text: &str) -> AcquireRequest {
        let request = ask(text, LONG);
        granted(&self.backend, &request).await;
        request
    }

    /// Locks the row of a grant, so that an extend waits for it at the server.
    async fn block(&self, held: &AcquireRequest) -> Foreign {
        let mut foreign = Foreign::open(&self.server.url()).await;
        let (locks, id) = (&self.names.locks, held.lock_id.as_str());
        let row = format!("SELECT 1 FROM {locks} WHERE lock_id = '{id}' FOR UPDATE");
        foreign.run(&format!("BEGIN; {row}")).await;
        foreign
    }

    fn acquires(&mut self, request: AcquireRequest) {
        let backend = self.backend.clone();
        self.logs("acquire", async move { backend.acquire(&request).await.is_ok() });
    }

    fn releases(&mut self, held: AcquireRequest) {
        let backend = self.backend.clone();
        self.logs("release", async move { released(&backend, &held).await });
    }

    fn extends(&mut self, held: AcquireRequest) {
        let backend = self.backend.clone();
        self.logs("extend", async move { extended(&backend, &held).await });
    }

    fn logs(&mut self, name: &'static str, work: impl Future<Output = bool> + Send + 'static) {
        let log = self.log.clone();
        self.tasks.spawn(async move {
            assert!(work.await, "{name}");
            log.lock().unwrap().push(name);
        });
    }

    /// Waits until this many statements wait for each other at the server.
    async fn blocked(&mut self, count: i64) {
        let waiting = format!(
            "SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
             WHERE NOT granted AND query LIKE '%{}%'",
            self.names.locks
        );
        let is_so = async || self.watch.number(&waiting).await == count;
        eventually("statements wait", is_so).await;
    }

    /// Looks for a while whether more statements come to wait than this.
    async fn stays_blocked(&mut self, count: i64) {
        for _ in 0..50 {
            self.blocked(count).await;
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn logged(&self, count: usize) -> Vec<&'static str> {
        let is_so = async || self.log.lock().unwrap().len() >= count;
        eventually("all are answered", is_so).await;
        self.log.lock().unwrap().clone()
    }

    /// Has both connections used at the same time, and idle thereafter.
    async fn use_both(&mut self) {
        let held = [self.hold("one").await, self.hold("other").await];
        let mut blocks = [self.block(&held[0]).await, self.block(&held[1]).await];
        // One after the other: extends that wait for a connection together are one statement.
        for (held, count) in held.into_iter().zip(1..) {
            self.extends(held);
            self.blocked(count).await;
        }
        for block in &mut blocks {
            block.run("COMMIT").await;
        }
        self.logged(2).await;
        self.log.lock().unwrap().clear();
    }
}

#[tokio::test]
async fn an_extend_goes_before_releases_and_those_before_acquires() {
    let mut scarce = Scarce::new().await;
    let (first, second) = (scarce.hold("first").await, scarce.hold("second").await);
    let kept = scarce.hold("kept").await;
    let given_back = [scarce.hold("a").await, scarce.hold("b").await, scarce.hold("c").await];
    let (mut first_block, mut second_block) =
        (scarce.block(&first).await, scarce.block(&second).await);
    scarce.extends(first);
    scarce.blocked(1).await;
    scarce.extends(second);
    scarce.blocked(2).await;
    for number in 0..3 {
        scarce.acquires(ask(&format!("wanted {number}"), LONG));
    }
    given_back.into_iter().for_each(|held| scarce.releases(held));
    scarce.extends(kept);
    for _ in 0..100 {
        yield_now().await;
    }
    // One connection is free from now on.
    first_block.run("COMMIT").await;
    let order = scarce.logged(8).await;
    assert_eq!(order[..2], ["extend"; 2], "{order:?}");
    assert_eq!(order[2..5], ["release"; 3], "{order:?}");
    assert_eq!(order[5..], ["acquire"; 3], "{order:?}");
    second_block.run("COMMIT").await;
    scarce.tasks.join_all().await;
}

#[tokio::test]
async fn an_extend_does_not_wait_for_acquires_that_hang() {
    let mut scarce = Scarce::new().await;
    let kept = scarce.hold("kept").await;
    scarce.use_both().await;
    let mut counter = hold_counter(&scarce.server, &scarce.names, "wanted").await;
    for _ in 0..3 {
        scarce.acquires(ask("wanted", LONG));
    }
    scarce.stays_blocked(1).await;
    scarce.extends(kept);
    assert_eq!(scarce.logged(1).await, ["extend"], "an acquire gave its connection up first");
    counter.run("COMMIT").await;
    scarce.tasks.join_all().await;
}

#[tokio::test]
async fn a_thousand_waiters_open_a_few_connections_at_a_time() {
    let server = shared().await;
    let proxy = Proxy::start(server.address()).await.unwrap();
    let config = Names::fresh().config(&server.url_through(proxy.address())).without_listening();
    let config = config.max_connections(100).connect_timeout(LONG).statement_timeout(LONG);
    let backend = PostgresBackend::connect(config).await.unwrap();
    let held = ask("job", LONG);
    granted(&backend, &held).await;
    let before = proxy.counts().connections;
    proxy.black_hole(Flow::Replies);
    let mut tasks = JoinSet::new();
    for _ in 0..1_000 {
        let (backend, held) = (backend.clone(), held.clone());
        tasks.spawn(async move { extended(&backend, &held).await });
    }
    proxy.until(|counts| counts.connections >= before + OPENED_AT_A_TIME).await;
    // All others that were begun at the same time have come by then.
    sleep(Duration::from_millis(100)).await;
    assert_eq!(proxy.counts().connections, before + OPENED_AT_A_TIME);
}
