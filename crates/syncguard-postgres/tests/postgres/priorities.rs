//! The order in which requests are served if there are few connections. It does not depend on
//! timing.

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

/// The maximum number of connections that the pool opens concurrently.
const MAX_CONCURRENT_OPENS: u64 = 3;

/// A backend with two connections, one of which is never used for acquires.
struct Scarce {
    server: Arc<PostgresServer>,
    names: Names,
    backend: PostgresBackend,
    watch: Foreign,
    /// The operations that were answered, in order.
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

    async fn acquire(&self, text: &str) -> AcquireRequest {
        let request = ask(text, LONG);
        granted(&self.backend, &request).await;
        request
    }

    /// Locks the row of a grant, so that an extend of it waits at the server.
    async fn block(&self, held: &AcquireRequest) -> Foreign {
        let mut foreign = Foreign::open(&self.server.url()).await;
        let (locks, id) = (&self.names.locks, held.lock_id.as_str());
        let row = format!("SELECT 1 FROM {locks} WHERE lock_id = '{id}' FOR UPDATE");
        foreign.run(&format!("BEGIN; {row}")).await;
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

    /// Waits until this many statements wait for each other at the server.
    async fn blocked(&mut self, count: i64) {
        let waiting = format!(
            "SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
             WHERE NOT granted AND query LIKE '%{}%'",
            self.names.locks
        );
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

    /// Lets the server record each change of a lock from now on, in the order of the statements.
    async fn record_changes(&mut self) {
        let locks = &self.names.locks;
        let sql = format!(
            "CREATE TABLE {locks}_changes (number bigserial, operation text);
             CREATE FUNCTION {locks}_record() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 INSERT INTO {locks}_changes (operation) VALUES (TG_OP);
                 RETURN NULL;
             END $$;
             CREATE TRIGGER record AFTER INSERT OR UPDATE OR DELETE ON {locks}
                 FOR EACH ROW EXECUTE FUNCTION {locks}_record()"
        );
        self.watch.run(&sql).await;
    }

    /// Returns the recorded changes, in order.
    async fn changes(&mut self) -> String {
        let sql = format!(
            "SELECT string_agg(operation, ' ' ORDER BY number) FROM {}_changes",
            self.names.locks
        );
        self.watch.text(&sql).await
    }

    async fn logged(&self, count: usize) -> Vec<&'static str> {
        let reached = async || self.log.lock().unwrap().len() >= count;
        eventually("all are answered", reached).await;
        self.log.lock().unwrap().clone()
    }

    /// Uses both connections at the same time, and leaves them idle.
    async fn use_both_connections(&mut self) {
        let held = [self.acquire("one").await, self.acquire("other").await];
        let mut blocks = [self.block(&held[0]).await, self.block(&held[1]).await];
        // One after the other: extends that wait for a connection together are one statement.
        for (held, count) in held.into_iter().zip(1..) {
            self.spawn_extend(held);
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
async fn extends_are_sent_before_releases_and_releases_before_acquires() {
    let mut scarce = Scarce::new().await;
    let (first, second) = (scarce.acquire("first").await, scarce.acquire("second").await);
    let kept = scarce.acquire("kept").await;
    let to_release =
        [scarce.acquire("a").await, scarce.acquire("b").await, scarce.acquire("c").await];
    scarce.record_changes().await;
    let (mut first_block, mut second_block) =
        (scarce.block(&first).await, scarce.block(&second).await);
    scarce.spawn_extend(first);
    scarce.blocked(1).await;
    scarce.spawn_extend(second);
    scarce.blocked(2).await;
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
    scarce.logged(8).await;
    // The order at the server: a busy client may see the answers in another one.
    let extends_first = "UPDATE UPDATE DELETE DELETE DELETE INSERT INSERT INSERT";
    assert_eq!(scarce.changes().await, extends_first);
    second_block.run("COMMIT").await;
    scarce.tasks.join_all().await;
}

#[tokio::test]
async fn an_extend_does_not_wait_for_acquires_that_hang() {
    let mut scarce = Scarce::new().await;
    let kept = scarce.acquire("kept").await;
    scarce.use_both_connections().await;
    let mut counter = hold_counter(&scarce.server, &scarce.names, "wanted").await;
    for _ in 0..3 {
        scarce.spawn_acquire(ask("wanted", LONG));
    }
    scarce.stay_blocked(1).await;
    scarce.spawn_extend(kept);
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
    proxy.until(|counts| counts.connections >= before + MAX_CONCURRENT_OPENS).await;
    // All other attempts that were begun at the same time have arrived by then.
    sleep(Duration::from_millis(100)).await;
    assert_eq!(proxy.counts().connections, before + MAX_CONCURRENT_OPENS);
}
