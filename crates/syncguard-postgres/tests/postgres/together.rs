//! Requests of shared mode for one key that are sent together.

use std::{
    future::{Future, poll_fn},
    num::NonZeroU32,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use syncguard_core::{
    Error, ErrorKind, Fence, LockId, ReleaseOutcome,
    backend::{AcquireOutcome, AcquireRequest, ExtendOutcome, LockBackend, LockRef, Mode},
};
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::{
    operations::{
        LONG, ask, error_of, eventually, extended, granted, is_locked, key, lock_of, released, ttl,
    },
    server::PostgresServer,
};
use tokio::task::JoinHandle;

use crate::{
    Foreign, Names,
    queueing::{hold_turn, queued},
    shared,
    typescript::with_names,
};

/// The limit on waiting for a notification. Without one a waiter would wait forever.
const WAKE_TIMEOUT: Duration = Duration::from_secs(20);

struct Scene {
    server: Arc<PostgresServer>,
    names: Names,
    backend: PostgresBackend,
    foreign: Foreign,
}

type Acquiring = JoinHandle<Result<AcquireOutcome, Error>>;
type Releasing = JoinHandle<Result<ReleaseOutcome, Error>>;

impl Scene {
    async fn set() -> Self {
        let (server, names) = (shared().await, Names::fresh());
        let backend = names.connect(&server.url()).await;
        let foreign = Foreign::open(&server.url()).await;
        Self { server, names, backend, foreign }
    }

    async fn run(&mut self, sql: &str) {
        self.foreign.run(&with_names(sql, &self.names)).await;
    }

    async fn number(&mut self, sql: &str) -> i64 {
        self.foreign.number(&with_names(sql, &self.names)).await
    }

    /// Begins an acquire. When this returns, it is queued or sent.
    async fn acquire(&self, request: &AcquireRequest) -> Acquiring {
        let (backend, request) = (self.backend.clone(), request.clone());
        begin(async move { backend.acquire(&request).await }).await
    }

    /// Begins a release. When this returns, it is queued or sent.
    async fn release(&self, lock: LockRef) -> Releasing {
        let backend = self.backend.clone();
        begin(async move { backend.release(&lock).await }).await
    }

    /// Blocks the requests for the key `job` by a request that waits inside the server. What is
    /// queued until [`unblock`](Self::unblock) is sent together.
    async fn block(&self, first: &AcquireRequest) -> (Foreign, Acquiring) {
        let turn = hold_turn(&self.server, "job").await;
        let first = self.acquire(first).await;
        queued(&self.server, 1).await;
        (turn, first)
    }

    /// Lets the request that blocks the others be granted, and returns its fence.
    async fn unblock(&self, (mut turn, first): (Foreign, Acquiring)) -> u64 {
        turn.run("COMMIT").await;
        fence(first).await
    }

    /// Counts the transactions in which the members of the key `job` were inserted.
    async fn batches(&mut self) -> i64 {
        let sql = "SELECT count(DISTINCT xmin::text) FROM {locks} WHERE head_key = 'job'";
        self.number(sql).await
    }
}

/// Polls a request once, which queues it, and runs it in a task.
async fn begin<T: Send + 'static>(
    request: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    let mut request = Box::pin(request);
    assert!(poll_fn(|context| Poll::Ready(request.as_mut().poll(context).is_pending())).await);
    tokio::spawn(request)
}

fn reader() -> AcquireRequest {
    ask("job", LONG).with_mode(Mode::SHARED)
}

fn permit(permits: u32) -> AcquireRequest {
    ask("job", LONG).with_mode(Mode::Shared { permits: NonZeroU32::new(permits) })
}

async fn fence(acquiring: Acquiring) -> u64 {
    match acquiring.await.unwrap().unwrap() {
        AcquireOutcome::Granted(grant) => grant.fence.number(),
        AcquireOutcome::Contended { holder } => panic!("contended by {holder:?}"),
    }
}

#[tokio::test]
async fn requests_that_arrive_while_one_is_in_flight_are_granted_together_in_their_order() {
    let mut scene = Scene::set().await;
    let blocked = scene.block(&reader()).await;
    let requests: Vec<_> = (1..=5).map(|n| (n, reader())).collect();
    let mut acquiring = Vec::new();
    for (n, request) in &requests {
        let mut longer = request.clone();
        longer.ttl = ttl(LONG * *n);
        acquiring.push(scene.acquire(&longer).await);
        // If it were sent beside the one in flight, it would not be sent with the next one.
        granted(&scene.backend, &ask(&format!("other {n}"), LONG)).await;
    }
    assert_eq!(scene.unblock(blocked).await, 1);
    for (acquiring, expected) in acquiring.into_iter().zip(2..) {
        assert_eq!(fence(acquiring).await, expected);
    }
    assert_eq!(scene.batches().await, 2);
    let record = scene.backend.lookup(&key("job").into()).await.unwrap().unwrap();
    assert_eq!((record.holders.len(), record.fence.number()), (6, 6));
    for ((n, request), holder) in requests.iter().zip(&record.holders[1..]) {
        assert_eq!(holder.lock_id, request.lock_id);
        assert_eq!(holder.expires_at.since(holder.acquired_at), LONG * *n);
    }
    assert_eq!(record.expires_at, record.holders[5].expires_at);
    for (_, request) in &requests {
        assert!(extended(&scene.backend, request).await && released(&scene.backend, request).await);
    }
}

#[tokio::test]
async fn a_batch_over_the_permits_grants_as_many_as_there_are() {
    let mut scene = Scene::set().await;
    let blocked = scene.block(&permit(3)).await;
    let mut acquiring = Vec::new();
    for _ in 0..5 {
        acquiring.push(scene.acquire(&permit(3)).await);
    }
    let other = scene.acquire(&permit(4)).await;
    scene.unblock(blocked).await;
    let mut outcomes = acquiring.into_iter();
    for expected in [2, 3] {
        assert_eq!(fence(outcomes.next().unwrap()).await, expected);
    }
    for refused in outcomes {
        let AcquireOutcome::Contended { holder: Some(holder) } = refused.await.unwrap().unwrap()
        else {
            panic!("granted beyond the permits, or refused by no one");
        };
        assert_eq!((holder.count, holder.fence.map(Fence::number)), (Some(3), Some(3)));
    }
    let error = error_of(other.await.unwrap(), ErrorKind::InvalidArgument);
    assert!(!error.may_have_applied());
    assert_eq!(scene.batches().await, 2);
    assert_eq!(scene.number("SELECT fence FROM {counters}").await, 3, "no fence is lost");
}

/// One id was abandoned before, and one is abandoned between the look and the write.
#[tokio::test]
async fn an_abandoned_id_does_not_fail_the_others_of_its_batch() {
    let mut scene = Scene::set().await;
    let requests = [0; 4].map(|_| reader());
    let [before, meanwhile, ..] = &requests;
    scene.backend.abandon(before.lock_id, &before.key).await.unwrap();
    let blocked = scene.block(&reader()).await;
    let mut acquiring = Vec::new();
    for request in &requests {
        acquiring.push(scene.acquire(request).await);
    }
    scene.run("BEGIN").await;
    let tombstone =
        "INSERT INTO {locks} (key, lock_id, expires_at_ms, acquired_at_ms, fence, user_key)
        SELECT 'abandoned', ID, 0, 1, lpad('0', 15, '0'), 'abandoned'";
    scene.run(&tombstone.replace("ID", &format!("'{}'", meanwhile.lock_id.as_str()))).await;
    scene.unblock(blocked).await;
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted";
    let mut other = Foreign::open(&scene.server.url()).await;
    eventually("the batch waits", async || other.number(waiting).await == 1).await;
    scene.run("COMMIT").await;
    let mut outcomes = acquiring.into_iter();
    for _ in 0..2 {
        let outcome = outcomes.next().unwrap().await.unwrap();
        let error = error_of(outcome, ErrorKind::Aborted);
        assert!(!error.may_have_applied(), "{error}");
    }
    for (outcome, expected) in outcomes.zip(2..) {
        assert_eq!(fence(outcome).await, expected);
    }
    assert_eq!(scene.number("SELECT fence FROM {counters}").await, 3, "no fence is lost");
}

#[tokio::test]
async fn a_batch_that_would_exceed_the_limit_of_the_counter_is_granted_one_by_one() {
    let mut scene = Scene::set().await;
    let limit = Fence::LIMIT.number();
    scene.run(&format!("INSERT INTO {{counters}} VALUES ('fence:job', {})", limit - 2)).await;
    let blocked = scene.block(&reader()).await;
    let (first, second) = (scene.acquire(&reader()).await, scene.acquire(&reader()).await);
    assert_eq!(scene.unblock(blocked).await, limit - 1);
    assert_eq!(fence(first).await, limit);
    let error = error_of(second.await.unwrap(), ErrorKind::Internal);
    assert!(!error.may_have_applied() && error.to_string().contains("limit"), "{error}");
}

#[tokio::test]
async fn a_request_that_is_dropped_while_it_is_queued_is_not_sent() {
    let mut scene = Scene::set().await;
    let blocked = scene.block(&reader()).await;
    let (dropped, kept) = (reader(), reader());
    let dropping = scene.acquire(&dropped).await;
    let keeping = scene.acquire(&kept).await;
    dropping.abort();
    assert!(dropping.await.unwrap_err().is_cancelled());
    scene.unblock(blocked).await;
    assert_eq!(fence(keeping).await, 2);
    let rows = "SELECT count(*) FROM {locks} WHERE lock_id = 'ID' OR jsonb_exists(holders, 'ID')";
    assert_eq!(scene.number(&rows.replace("ID", dropped.lock_id.as_str())).await, 0);
}

#[tokio::test]
async fn two_requests_under_one_id_in_a_batch_have_one_grant() {
    let scene = Scene::set().await;
    let blocked = scene.block(&reader()).await;
    let request = reader();
    let (first, second) = (scene.acquire(&request).await, scene.acquire(&request).await);
    scene.unblock(blocked).await;
    assert_eq!((fence(first).await, fence(second).await), (2, 2));
    let blocked = scene.block(&reader()).await;
    let (first, second) =
        (scene.release(lock_of(&request)).await, scene.release(lock_of(&request)).await);
    scene.unblock(blocked).await;
    assert_eq!(first.await.unwrap().unwrap(), ReleaseOutcome::Released);
    assert!(matches!(second.await.unwrap().unwrap(), ReleaseOutcome::NotHeld(_)));
}

#[tokio::test]
async fn a_request_that_waits_for_its_turn_too_long_is_not_applied() {
    let scene = Scene::set().await;
    let config = scene.names.config(&scene.server.url());
    let config = config.connect_timeout(Duration::from_millis(200)).lock_timeout(LONG);
    let backend = PostgresBackend::connect(config.statement_timeout(LONG)).await.unwrap();
    let scene = Scene { backend, ..scene };
    let blocked = scene.block(&reader()).await;
    let late = scene.acquire(&reader()).await.await.unwrap();
    let error = error_of(late, ErrorKind::ServiceUnavailable);
    assert!(!error.may_have_applied(), "{error}");
    assert_eq!(scene.unblock(blocked).await, 1);
    assert_eq!(granted(&scene.backend, &reader()).await.fence.number(), 2);
}

/// Hints name the key and the mode of a grant; the id decides.
#[tokio::test]
async fn releases_with_wrong_hints_in_a_batch_end_the_grants_of_their_ids() {
    let scene = Scene::set().await;
    let backend = &scene.backend;
    let (one, two, other) = (reader(), reader(), ask("other", LONG).with_mode(Mode::SHARED));
    let (exclusive, never) = (ask("exclusive", LONG), reader());
    for request in [&one, &two, &other, &exclusive] {
        granted(backend, request).await;
    }
    let blocked = scene.block(&reader()).await;
    let hinted = |id: LockId| LockRef::new(id, key("job")).with_mode(Mode::SHARED);
    let mut releasing = Vec::new();
    for request in [&other, &one, &exclusive, &two] {
        releasing.push(scene.release(hinted(request.lock_id)).await);
    }
    let not_held = scene.release(hinted(never.lock_id)).await;
    scene.unblock(blocked).await;
    for releasing in releasing {
        assert_eq!(releasing.await.unwrap().unwrap(), ReleaseOutcome::Released);
    }
    assert!(matches!(not_held.await.unwrap().unwrap(), ReleaseOutcome::NotHeld(_)));
    for request in [&one, &two, &other, &exclusive] {
        let outcome = backend.extend(&lock_of(request), request.ttl).await.unwrap();
        assert!(matches!(outcome, ExtendOutcome::NotHeld(_)));
    }
    assert!(!is_locked(backend, "other").await && !is_locked(backend, "exclusive").await);
    let record = backend.lookup(&key("job").into()).await.unwrap().unwrap();
    assert_eq!(record.holders.len(), 1, "the one that blocked the others");
}

#[tokio::test]
async fn the_releases_of_the_last_holders_together_free_the_key_and_notify() {
    let mut scene = Scene::set().await;
    let theirs = scene.names.connect(&scene.server.url()).await;
    let requests = [0; 3].map(|_| reader());
    for request in &requests {
        granted(&scene.backend, request).await;
    }
    let job = key("job");
    tokio::time::timeout(WAKE_TIMEOUT, theirs.released(&job)).await.expect("it is watched");
    let mut notified = pin!(theirs.released(&job));
    assert!(poll_fn(|context| Poll::Ready(notified.as_mut().poll(context).is_pending())).await);
    let mut turn = hold_turn(&scene.server, "job").await;
    let mut releasing = vec![scene.release(lock_of(&requests[0])).await];
    queued(&scene.server, 1).await;
    for request in &requests[1..] {
        releasing.push(scene.release(lock_of(request)).await);
    }
    turn.run("COMMIT").await;
    for releasing in releasing {
        assert_eq!(releasing.await.unwrap().unwrap(), ReleaseOutcome::Released);
    }
    tokio::time::timeout(WAKE_TIMEOUT, notified).await.expect("the release notifies");
    let left = "SELECT count(*) FROM {locks} WHERE head_key IS NOT NULL
        OR holders <> jsonb_build_object() OR expires_at_ms > 0";
    assert_eq!(scene.number(left).await, 0);
}

/// A batch is sent as one text behind a pooler, and its arrays are read from texts.
#[tokio::test]
async fn batches_work_through_a_pooler() {
    let scene = Scene::set().await;
    let config = scene.names.config(&scene.server.url()).pgbouncer();
    let mut scene = Scene { backend: PostgresBackend::connect(config).await.unwrap(), ..scene };
    let blocked = scene.block(&permit(4)).await;
    let requests = [0; 5].map(|_| permit(4));
    let mut acquiring = Vec::new();
    for request in &requests {
        acquiring.push(scene.acquire(request).await);
    }
    scene.unblock(blocked).await;
    for (acquiring, expected) in acquiring.drain(..3).zip(2..) {
        assert_eq!(fence(acquiring).await, expected);
    }
    for refused in acquiring {
        assert!(matches!(refused.await.unwrap().unwrap(), AcquireOutcome::Contended { .. }));
    }
    assert_eq!(scene.batches().await, 2);
    let mut turn = hold_turn(&scene.server, "job").await;
    let mut releasing = Vec::new();
    for request in &requests {
        releasing.push(scene.release(lock_of(request)).await);
    }
    turn.run("COMMIT").await;
    for (n, releasing) in releasing.into_iter().enumerate() {
        let is_released = releasing.await.unwrap().unwrap() == ReleaseOutcome::Released;
        assert_eq!(is_released, n < 3);
    }
}

#[tokio::test]
async fn the_schema_step_replaces_functions_of_other_signatures() {
    let mut scene = Scene::set().await;
    scene
        .run(
            "DROP FUNCTION {locks}_leave;
            CREATE FUNCTION {locks}_leave(text, text, bigint, text, integer) RETURNS boolean
                LANGUAGE sql AS 'SELECT true';
            CREATE FUNCTION {locks}_share(boolean, text, text) RETURNS boolean
                LANGUAGE sql AS 'SELECT true'",
        )
        .await;
    let config = scene.names.config(&scene.server.url());
    let backend = PostgresBackend::connect(config.clone()).await.unwrap();
    assert!(!backend.capabilities().shared);
    let request = ask("job", LONG);
    granted(&backend, &request).await;
    assert!(released(&backend, &request).await);
    PostgresBackend::setup_schema(&config).await.unwrap();
    let functions = "SELECT count(*) FROM pg_proc WHERE starts_with(proname, '{locks}')";
    assert_eq!(scene.number(functions).await, 6);
    let backend = PostgresBackend::connect(config).await.unwrap();
    let request = reader();
    granted(&backend, &request).await;
    assert!(released(&backend, &request).await);
}
