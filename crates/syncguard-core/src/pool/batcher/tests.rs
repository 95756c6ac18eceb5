//! Order, counts and virtual time: no test here depends on the speed of the machine.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::Semaphore,
    task::{JoinHandle, yield_now},
    time::Instant,
};

use super::{BatchLimits, Batcher, Interrupted, SendBatch};

/// A request that breaks the connection that it is sent over.
const BREAKS: u64 = 13;

/// A server that answers a number with itself. It has as many connections as its semaphore has
/// permits.
struct Server {
    connections: Semaphore,
    /// How many senders wait for a connection.
    leasing: AtomicUsize,
    refuses: AtomicBool,
    /// The requests that it leaves out of a batch.
    left_out: HashSet<u64>,
    sent: Mutex<Vec<Vec<u64>>>,
}

impl Server {
    fn new(connections: usize, left_out: &[u64]) -> Arc<Self> {
        Arc::new(Self {
            connections: Semaphore::new(connections),
            leasing: AtomicUsize::new(0),
            refuses: AtomicBool::new(false),
            left_out: left_out.iter().copied().collect(),
            sent: Mutex::default(),
        })
    }

    fn sent(&self) -> Vec<Vec<u64>> {
        self.sent.lock().unwrap().clone()
    }

    async fn answer(&self, requests: &[u64]) -> Result<(), &'static str> {
        self.sent.lock().unwrap().push(requests.to_vec());
        yield_now().await;
        match requests.contains(&BREAKS) {
            true => Err("broken"),
            false => Ok(()),
        }
    }
}

struct ToServer(Arc<Server>);

/// A connection that is returned when it is dropped.
struct Leased(Arc<Server>);

impl Drop for Leased {
    fn drop(&mut self) {
        self.0.connections.add_permits(1);
    }
}

struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl SendBatch for ToServer {
    type Request = u64;
    type Answer = u64;
    type Error = &'static str;
    type Leased = Leased;

    async fn lease(&self) -> Result<Leased, &'static str> {
        self.0.leasing.fetch_add(1, SeqCst);
        let _counted = Counted(&self.0.leasing);
        self.0.connections.acquire().await.unwrap().forget();
        let leased = Leased(self.0.clone());
        match self.0.refuses.load(SeqCst) {
            true => Err("refused"),
            false => Ok(leased),
        }
    }

    async fn send_one(&self, _leased: Leased, request: &u64) -> Result<u64, &'static str> {
        self.0.answer(&[*request]).await.map(|()| *request)
    }

    async fn send_many(
        &self,
        _leased: Leased,
        requests: &[u64],
    ) -> Result<Vec<Option<u64>>, &'static str> {
        self.0.answer(requests).await?;
        let answer = |request: &u64| (!self.0.left_out.contains(request)).then_some(*request);
        Ok(requests.iter().map(answer).collect())
    }
}

const LIMITS: BatchLimits = BatchLimits { requests: 3, connections: 2 };

fn batcher(server: &Arc<Server>) -> Arc<Batcher<ToServer>> {
    Arc::new(Batcher::new(ToServer(server.clone()), LIMITS, Handle::current()))
}

type Asking = JoinHandle<Result<Result<u64, Arc<&'static str>>, Interrupted>>;

/// Sends, in a task, the request `seconds`, which is needed in as many seconds.
async fn asks(batcher: &Arc<Batcher<ToServer>>, seconds: u64) -> Asking {
    let batcher = batcher.clone();
    let needed_by = Instant::now() + Duration::from_secs(seconds);
    let asking = tokio::spawn(async move { batcher.ask(needed_by, seconds).await });
    settled().await;
    asking
}

/// Lets all tasks run that can.
async fn settled() {
    for _ in 0..20 {
        yield_now().await;
    }
}

async fn all_ask(batcher: &Arc<Batcher<ToServer>>, seconds: &[u64]) -> Vec<Asking> {
    let mut asking = Vec::new();
    for seconds in seconds {
        asking.push(asks(batcher, *seconds).await);
    }
    asking
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_are_sent_together_the_most_urgent_first() {
    let server = Server::new(0, &[]);
    let batcher = batcher(&server);
    let asking = all_ask(&batcher, &[7, 2, 9, 4, 1, 8, 3]).await;
    assert_eq!(server.sent().len(), 0);
    server.connections.add_permits(1);
    for (asking, seconds) in asking.into_iter().zip([7, 2, 9, 4, 1, 8, 3]) {
        assert_eq!(asking.await.unwrap(), Ok(Ok(seconds)), "each has its own answer");
    }
    assert_eq!(server.sent(), [vec![1, 2, 3], vec![4, 7, 8], vec![9]]);
}

#[tokio::test(start_paused = true)]
async fn a_request_for_which_there_is_a_connection_is_sent_at_once_and_by_itself() {
    let server = Server::new(2, &[]);
    let batcher = batcher(&server);
    for seconds in [1, 2, 3] {
        assert_eq!(asks(&batcher, seconds).await.await.unwrap(), Ok(Ok(seconds)));
    }
    assert_eq!(server.sent(), [[1], [2], [3]]);
}

/// A caller that times out and asks again keeps its place.
#[tokio::test(start_paused = true)]
async fn who_gives_up_is_not_sent_and_who_asks_again_comes_back_to_where_it_stood() {
    let server = Server::new(0, &[]);
    let batcher = batcher(&server);
    let urgent = asks(&batcher, 1).await;
    let others = all_ask(&batcher, &[2, 3, 4, 5]).await;
    urgent.abort();
    settled().await;
    let gone = asks(&batcher, 0).await;
    gone.abort();
    let again = asks(&batcher, 1).await;
    server.connections.add_permits(1);
    for asking in others.into_iter().chain([again]) {
        asking.await.unwrap().unwrap().unwrap();
    }
    assert_eq!(server.sent(), [vec![1, 2, 3], vec![4, 5]]);
}

#[tokio::test(start_paused = true)]
async fn what_a_batch_leaves_out_is_sent_by_itself_and_once() {
    let server = Server::new(0, &[2, 3]);
    let batcher = batcher(&server);
    let asking = all_ask(&batcher, &[1, 2, 3, 4, 5]).await;
    server.connections.add_permits(1);
    for (asking, seconds) in asking.into_iter().zip(1..) {
        assert_eq!(asking.await.unwrap(), Ok(Ok(seconds)));
    }
    assert_eq!(server.sent(), [vec![1, 2, 3], vec![2], vec![3], vec![4, 5]]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_while_its_batch_is_sent_is_not_queued_again() {
    let server = Server::new(0, &[2]);
    let batcher = batcher(&server);
    let mut asking = all_ask(&batcher, &[1, 2]).await;
    server.connections.add_permits(1);
    while server.sent().is_empty() {
        yield_now().await;
    }
    asking.pop().unwrap().abort();
    settled().await;
    assert_eq!(server.sent(), [[1, 2]]);
    assert!(batcher.0.queue().waiting.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_batch_is_that_of_each_in_it_and_of_no_other() {
    let server = Server::new(0, &[]);
    let batcher = batcher(&server);
    let asking = all_ask(&batcher, &[11, 12, BREAKS, 14]).await;
    server.connections.add_permits(1);
    let mut outcomes = Vec::new();
    for asking in asking {
        outcomes.push(asking.await.unwrap());
    }
    let broken = || Ok(Err(Arc::new("broken")));
    assert_eq!(outcomes, [broken(), broken(), broken(), Ok(Ok(14))]);
}

#[tokio::test(start_paused = true)]
async fn where_there_is_no_connection_all_who_wait_are_answered() {
    let server = Server::new(0, &[]);
    let batcher = batcher(&server);
    let asking = all_ask(&batcher, &[1, 2, 3, 4, 5]).await;
    server.refuses.store(true, SeqCst);
    server.connections.add_permits(1);
    for asking in asking {
        assert_eq!(asking.await.unwrap(), Ok(Err(Arc::new("refused"))));
    }
    server.refuses.store(false, SeqCst);
    assert_eq!(asks(&batcher, 6).await.await.unwrap(), Ok(Ok(6)));
}

#[tokio::test(start_paused = true)]
async fn no_more_connections_are_waited_for_than_there_are_batches_or_the_limit_allows() {
    let server = Server::new(0, &[]);
    let batcher = batcher(&server);
    let leasing = || server.leasing.load(SeqCst);
    let mut asking = Vec::new();
    for (seconds, connections) in [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2), (7, 2)] {
        asking.push(asks(&batcher, seconds).await);
        assert_eq!(leasing(), connections, "{seconds} wait");
    }
    asking.iter().for_each(JoinHandle::abort);
    settled().await;
    assert_eq!(leasing(), 0, "no one waits");
    server.connections.add_permits(1);
    assert_eq!(asks(&batcher, 8).await.await.unwrap(), Ok(Ok(8)));
    assert_eq!(server.sent(), [[8]]);
}

#[test]
fn where_the_runtime_has_ended_a_request_says_how_far_it_came() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (home, other) = (runtime(), runtime());
    let server = Server::new(0, &[]);
    let batcher = home.block_on(async { batcher(&server) });
    let ask = |batcher: Arc<Batcher<ToServer>>| async move { batcher.ask(Instant::now(), 1).await };
    let waiting = [other.spawn(ask(batcher.clone())), other.spawn(ask(batcher.clone()))];
    other.block_on(settled());
    home.block_on(settled());
    assert_eq!(server.leasing.load(SeqCst), 1, "a task waits for a connection");
    drop(home);
    for waiting in waiting {
        assert_eq!(other.block_on(waiting).unwrap(), Err(Interrupted::NotSent));
    }
    assert_eq!(other.block_on(ask(batcher)), Err(Interrupted::NotStarted));
}

/// With real threads: however callers come and go, each that stays is answered.
#[test]
fn no_request_is_left_behind_when_callers_come_and_go_on_many_threads() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    runtime.unwrap().block_on(async {
        let server = Server::new(2, &[103, 133]);
        let batcher = batcher(&server);
        let mut tasks = tokio::task::JoinSet::new();
        for task in 100..164_u64 {
            let batcher = batcher.clone();
            tasks.spawn(async move {
                for round in 0..300_u64 {
                    let asking = batcher.ask(Instant::now(), task);
                    if (task + round).is_multiple_of(3) {
                        let patience = Duration::from_micros((task * 31 + round * 17) % 90);
                        let _ = tokio::time::timeout(patience, asking).await;
                    } else {
                        assert_eq!(asking.await, Ok(Ok(task)));
                    }
                }
            });
        }
        tasks.join_all().await;
        assert!(batcher.0.queue().waiting.is_empty());
    });
}
