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

type Sending = JoinHandle<Result<Result<u64, Arc<&'static str>>, Interrupted>>;

/// Sends, in a task, the request `seconds`, which is needed in as many seconds.
async fn send_in_task(batcher: &Arc<Batcher<ToServer>>, seconds: u64) -> Sending {
    let batcher = batcher.clone();
    let needed_by = Instant::now() + Duration::from_secs(seconds);
    let sending = tokio::spawn(async move { batcher.send(needed_by, seconds).await });
    run_all_tasks().await;
    sending
}

/// Lets all tasks run that are ready.
async fn run_all_tasks() {
    for _ in 0..20 {
        yield_now().await;
    }
}

async fn send_all(batcher: &Arc<Batcher<ToServer>>, seconds: &[u64]) -> Vec<Sending> {
    let mut sending = Vec::new();
    for seconds in seconds {
        sending.push(send_in_task(batcher, *seconds).await);
    }
    sending
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_are_sent_together_the_most_urgent_first() {
    let server = Server::new(0, &[]);
    let batcher = batcher(&server);
    let sending = send_all(&batcher, &[7, 2, 9, 4, 1, 8, 3]).await;
    assert_eq!(server.sent().len(), 0);
    server.connections.add_permits(1);
    for (sending, seconds) in sending.into_iter().zip([7, 2, 9, 4, 1, 8, 3]) {
        assert_eq!(sending.await.unwrap(), Ok(Ok(seconds)), "each has its own answer");
    }
    assert_eq!(server.sent(), [vec![1, 2, 3], vec![4, 7, 8], vec![9]]);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_sent_immediately_and_alone_if_a_connection_is_available() {
    let server = Server::new(2, &[]);
    let batcher = batcher(&server);
    for seconds in [1, 2, 3] {
        assert_eq!(send_in_task(&batcher, seconds).await.await.unwrap(), Ok(Ok(seconds)));
    }
    assert_eq!(server.sent(), [[1], [2], [3]]);
}

/// A caller that times out and sends its request again keeps its position.
#[tokio::test(start_paused = true)]
async fn a_dropped_request_is_not_sent_and_a_repeated_one_returns_to_its_position() {
    let server = Server::new(0, &[]);
    let batcher = batcher(&server);
    let urgent = send_in_task(&batcher, 1).await;
    let others = send_all(&batcher, &[2, 3, 4, 5]).await;
    urgent.abort();
    run_all_tasks().await;
    let gone = send_in_task(&batcher, 0).await;
    gone.abort();
    let again = send_in_task(&batcher, 1).await;
    server.connections.add_permits(1);
    for sending in others.into_iter().chain([again]) {
        sending.await.unwrap().unwrap().unwrap();
    }
    assert_eq!(server.sent(), [vec![1, 2, 3], vec![4, 5]]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_left_out_of_a_batch_is_sent_once_and_alone() {
    let server = Server::new(0, &[2, 3]);
    let batcher = batcher(&server);
    let sending = send_all(&batcher, &[1, 2, 3, 4, 5]).await;
    server.connections.add_permits(1);
    for (sending, seconds) in sending.into_iter().zip(1..) {
        assert_eq!(sending.await.unwrap(), Ok(Ok(seconds)));
    }
    assert_eq!(server.sent(), [vec![1, 2, 3], vec![2], vec![3], vec![4, 5]]);
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_caller_is_dropped_while_its_batch_is_sent_is_not_requeued() {
    let server = Server::new(0, &[2]);
    let batcher = batcher(&server);
    let mut sending = send_all(&batcher, &[1, 2]).await;
    server.connections.add_permits(1);
    while server.sent().is_empty() {
        yield_now().await;
    }
    sending.pop().unwrap().abort();
    run_all_tasks().await;
    assert_eq!(server.sent(), [[1, 2]]);
    assert!(batcher.0.queue().waiting.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_batch_is_returned_for_each_of_its_requests_and_for_no_other() {
    let server = Server::new(0, &[]);
    let batcher = batcher(&server);
    let sending = send_all(&batcher, &[11, 12, BREAKS, 14]).await;
    server.connections.add_permits(1);
    let mut outcomes = Vec::new();
    for sending in sending {
        outcomes.push(sending.await.unwrap());
    }
    let broken = || Ok(Err(Arc::new("broken")));
    assert_eq!(outcomes, [broken(), broken(), broken(), Ok(Ok(14))]);
}

#[tokio::test(start_paused = true)]
async fn an_error_while_leasing_is_returned_for_all_waiting_requests() {
    let server = Server::new(0, &[]);
    let batcher = batcher(&server);
    let sending = send_all(&batcher, &[1, 2, 3, 4, 5]).await;
    server.refuses.store(true, SeqCst);
    server.connections.add_permits(1);
    for sending in sending {
        assert_eq!(sending.await.unwrap(), Ok(Err(Arc::new("refused"))));
    }
    server.refuses.store(false, SeqCst);
    assert_eq!(send_in_task(&batcher, 6).await.await.unwrap(), Ok(Ok(6)));
}

#[tokio::test(start_paused = true)]
async fn senders_wait_for_one_connection_per_batch_up_to_the_limit() {
    let server = Server::new(0, &[]);
    let batcher = batcher(&server);
    let leasing = || server.leasing.load(SeqCst);
    let mut sending = Vec::new();
    for (seconds, connections) in [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2), (7, 2)] {
        sending.push(send_in_task(&batcher, seconds).await);
        assert_eq!(leasing(), connections, "{seconds} wait");
    }
    sending.iter().for_each(JoinHandle::abort);
    run_all_tasks().await;
    assert_eq!(leasing(), 0, "no request is waiting");
    server.connections.add_permits(1);
    assert_eq!(send_in_task(&batcher, 8).await.await.unwrap(), Ok(Ok(8)));
    assert_eq!(server.sent(), [[8]]);
}

#[test]
fn a_request_reports_its_progress_when_its_runtime_is_shut_down() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (home, other) = (runtime(), runtime());
    let server = Server::new(0, &[]);
    let batcher = home.block_on(async { batcher(&server) });
    let send =
        |batcher: Arc<Batcher<ToServer>>| async move { batcher.send(Instant::now(), 1).await };
    let waiting = [other.spawn(send(batcher.clone())), other.spawn(send(batcher.clone()))];
    other.block_on(run_all_tasks());
    home.block_on(run_all_tasks());
    assert_eq!(server.leasing.load(SeqCst), 1, "a task waits for a connection");
    drop(home);
    for waiting in waiting {
        assert_eq!(other.block_on(waiting).unwrap(), Err(Interrupted::NotSent));
    }
    assert_eq!(other.block_on(send(batcher)), Err(Interrupted::NotStarted));
}

/// With real threads: however many callers are dropped, each of the others receives an answer.
#[test]
fn every_request_receives_its_answer_while_callers_are_dropped_on_many_threads() {
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
                    let sending = batcher.send(Instant::now(), task);
                    if (task + round).is_multiple_of(3) {
                        let limit = Duration::from_micros((task * 31 + round * 17) % 90);
                        let _ = tokio::time::timeout(limit, sending).await;
                    } else {
                        assert_eq!(sending.await, Ok(Ok(task)));
                    }
                }
            });
        }
        tasks.join_all().await;
        assert!(batcher.0.queue().waiting.is_empty());
    });
}
