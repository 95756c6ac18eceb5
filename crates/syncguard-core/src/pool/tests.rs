//! Order, counts and virtual time: no test here depends on the speed of the machine.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::Notify,
    task::{JoinHandle, yield_now},
    time::{Instant, advance, sleep},
};

use super::{Interrupted, LeaseError, Limits, MAX_ENDING, Manager, Pool, Priority};

const WAIT: Duration = Duration::from_secs(4);
const OPEN: Duration = Duration::from_secs(5);

/// A server whose connections are numbers.
#[derive(Default)]
struct Server {
    /// The results of attempts to open.
    state: Mutex<Opens>,
    begun: AtomicUsize,
    opened: AtomicUsize,
    pings: AtomicUsize,
    is_silent: AtomicBool,
    /// How often sessions were ended, and which.
    ended: Mutex<Vec<usize>>,
    keeps_sessions: AtomicBool,
    admits: Notify,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Opens {
    #[default]
    AtOnce,
    Never,
    After(Duration),
    Fails,
    Refuses,
    WhenAdmitted,
    EveryFourth,
}

impl Server {
    fn opens(&self, opens: Opens) {
        *self.state.lock().unwrap() = opens;
    }
}

struct ToServer(Arc<Server>);

impl Manager for ToServer {
    type Connection = usize;
    type Error = &'static str;
    type Session = usize;

    async fn open(&self) -> Result<usize, &'static str> {
        let begun = self.0.begun.fetch_add(1, SeqCst);
        let opens = *self.0.state.lock().unwrap();
        match opens {
            Opens::AtOnce => {}
            Opens::Never => std::future::pending().await,
            Opens::After(time) => sleep(time).await,
            Opens::Fails => return Err("starting"),
            Opens::Refuses => return Err("wrong password"),
            Opens::EveryFourth if !begun.is_multiple_of(4) => return Err("starting"),
            Opens::EveryFourth => {}
            Opens::WhenAdmitted => self.0.admits.notified().await,
        }
        Ok(self.0.opened.fetch_add(1, SeqCst))
    }

    async fn ping(&self, _: &mut usize) -> Result<(), &'static str> {
        self.0.pings.fetch_add(1, SeqCst);
        if self.0.is_silent.load(SeqCst) {
            std::future::pending().await
        }
        Ok(())
    }

    fn is_transient(&self, error: &&'static str) -> bool {
        *error == "starting"
    }

    fn session(&self, connection: &usize) -> Option<usize> {
        Some(*connection)
    }

    async fn end(&self, sessions: &[usize]) -> Result<Vec<bool>, &'static str> {
        self.0.ended.lock().unwrap().extend(sessions);
        Ok(vec![!self.0.keeps_sessions.load(SeqCst); sessions.len()])
    }
}

fn pool(size: usize) -> (Pool<ToServer>, Arc<Server>) {
    let server = Arc::new(Server::default());
    let limits = Limits { size, wait: WAIT, open: OPEN };
    (Pool::new(ToServer(server.clone()), limits, Handle::current()), server)
}

type Log = Arc<Mutex<Vec<&'static str>>>;

/// Waits for a connection in a task, logs its name, and returns the connection.
async fn waits(
    pool: &Pool<ToServer>,
    priority: Priority,
    name: &'static str,
    log: &Log,
) -> JoinHandle<Result<(), LeaseError<&'static str>>> {
    let (pool, log) = (pool.clone(), log.clone());
    let waiting = tokio::spawn(async move {
        let lease = pool.lease(priority).await?;
        log.lock().unwrap().push(name);
        lease.give_back();
        Ok(())
    });
    settled().await;
    waiting
}

/// Lets all tasks run that can.
async fn settled() {
    for _ in 0..20 {
        yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn waiters_are_served_by_priority_and_then_in_order() {
    let (pool, _) = pool(2);
    let (one, other) = (
        pool.lease(Priority::Acquire).await.unwrap(),
        pool.lease(Priority::Release).await.unwrap(),
    );
    let log = Log::default();
    let mut waiting = Vec::new();
    for (priority, name) in [
        (Priority::Acquire, "acquire 1"),
        (Priority::Release, "release 1"),
        (Priority::Acquire, "acquire 2"),
        (Priority::Extend, "extend 1"),
        (Priority::Release, "release 2"),
        (Priority::Extend, "extend 2"),
    ] {
        waiting.push(waits(&pool, priority, name, &log).await);
    }
    one.give_back();
    for waiting in waiting {
        waiting.await.unwrap().unwrap();
    }
    let served = ["extend 1", "extend 2", "release 1", "release 2", "acquire 1", "acquire 2"];
    assert_eq!(*log.lock().unwrap(), served);
    other.give_back();
}

#[tokio::test(start_paused = true)]
async fn acquires_never_have_the_last_connection() {
    let (pool, server) = pool(3);
    let acquires = [
        pool.lease(Priority::Acquire).await.unwrap(),
        pool.lease(Priority::Acquire).await.unwrap(),
    ];
    let log = Log::default();
    let third = waits(&pool, Priority::Acquire, "acquire", &log).await;
    assert_eq!(server.opened.load(SeqCst), 2, "none is opened for it");
    for _ in 0..3 {
        pool.lease(Priority::Extend).await.unwrap().give_back();
    }
    assert!(log.lock().unwrap().is_empty(), "not even while the last one is idle");
    assert_eq!(server.opened.load(SeqCst), 3);
    acquires.into_iter().for_each(super::Lease::give_back);
    third.await.unwrap().unwrap();
}

/// The place of an acquire that hung still counts as an acquire's while its session is ended.
#[tokio::test(start_paused = true)]
async fn acquires_that_hang_leave_the_last_connection_alone() {
    let (pool, server) = pool(2);
    server.keeps_sessions.store(true, SeqCst);
    pool.lease(Priority::Acquire).await.unwrap().abandon();
    let refused = pool.lease(Priority::Acquire).await.unwrap_err();
    assert!(matches!(refused, LeaseError::TimedOut { .. }), "{refused:?}");
    pool.lease(Priority::Extend).await.unwrap().give_back();
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_gives_up_leaves_the_queue_and_one_that_was_handed_a_connection_passes_it_on()
{
    let (pool, server) = pool(2);
    let held = pool.lease(Priority::Acquire).await.unwrap();
    let log = Log::default();
    let gone = waits(&pool, Priority::Acquire, "gone", &log).await;
    let mut handed = Box::pin(pool.lease(Priority::Acquire));
    assert!(futures_pending(&mut handed).await);
    let next = waits(&pool, Priority::Acquire, "next", &log).await;
    gone.abort();
    settled().await;
    held.give_back();
    // It was assigned the connection, and is dropped before it is polled again.
    drop(handed);
    next.await.unwrap().unwrap();
    assert_eq!(*log.lock().unwrap(), ["next"]);
    assert_eq!(server.opened.load(SeqCst), 1, "the connection was passed on");
}

async fn futures_pending<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending())
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn an_acquire_gives_up_at_the_limit_and_an_extend_does_not() {
    let (pool, server) = pool(2);
    server.opens(Opens::Never);
    let log = Log::default();
    let extend = waits(&pool, Priority::Extend, "extend", &log).await;
    let begun = Instant::now();
    for priority in [Priority::Acquire, Priority::Release] {
        let refused = pool.lease(priority).await.unwrap_err();
        assert!(matches!(refused, LeaseError::TimedOut { limit: WAIT, .. }), "{refused:?}");
    }
    assert_eq!(begun.elapsed(), WAIT * 2);
    server.opens(Opens::AtOnce);
    extend.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_acquire_that_would_wait_too_long_is_refused_at_once_until_the_queue_moves_again() {
    let (pool, _) = pool(2);
    // A stall: leases take longer than anyone may wait.
    let stalled = pool.lease(Priority::Acquire).await.unwrap();
    advance(WAIT + Duration::from_secs(1)).await;
    stalled.give_back();
    let held = pool.lease(Priority::Acquire).await.unwrap();
    let log = Log::default();
    let first = waits(&pool, Priority::Acquire, "first", &log).await;
    let begun = Instant::now();
    let refused = pool.lease(Priority::Acquire).await.unwrap_err();
    assert!(matches!(refused, LeaseError::Busy(WAIT)), "{refused:?}");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    // Extends and releases are not refused.
    pool.lease(Priority::Extend).await.unwrap().give_back();
    // The stall is over, and the queue empty: the next caller is admitted, and what it measures
    // counts.
    held.give_back();
    first.await.unwrap().unwrap();
    let held = pool.lease(Priority::Acquire).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..10 {
        waiting.push(waits(&pool, Priority::Acquire, "again", &log).await);
    }
    held.give_back();
    for waiting in waiting {
        waiting.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_begun_for_a_waiter_that_has_gone_is_opened_for_the_pool() {
    let (pool, server) = pool(2);
    server.opens(Opens::After(WAIT + Duration::from_millis(500)));
    pool.lease(Priority::Acquire).await.unwrap_err();
    pool.lease(Priority::Acquire).await.unwrap().give_back();
    assert_eq!(server.begun.load(SeqCst), 1, "it was opened for whoever came next");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_waiters_open_a_few_connections_at_a_time() {
    let (pool, server) = pool(10);
    server.opens(Opens::WhenAdmitted);
    let log = Log::default();
    let mut waiting = Vec::new();
    for _ in 0..1_000 {
        waiting.push(waits(&pool, Priority::Extend, "extend", &log).await);
    }
    assert_eq!(server.begun.load(SeqCst), super::state::MAX_OPENING);
    server.opens(Opens::AtOnce);
    server.admits.notify_waiters();
    for waiting in waiting {
        waiting.await.unwrap().unwrap();
    }
    assert!(server.opened.load(SeqCst) <= 10);
}

/// The server stalls for twelve seconds, and many callers wait with short timeouts.
#[tokio::test(start_paused = true)]
async fn while_opening_hangs_or_fails_attempts_are_few() {
    for (opens, most) in [(Opens::Never, 6), (Opens::Fails, 200)] {
        let (pool, server) = pool(10);
        server.opens(opens);
        let log = Log::default();
        let mut waiting = Vec::new();
        for _ in 0..3 {
            for _ in 0..100 {
                waiting.push(waits(&pool, Priority::Release, "release", &log).await);
            }
            sleep(WAIT).await;
        }
        let begun = server.begun.load(SeqCst);
        assert!((1..=most).contains(&begun), "{begun} attempts");
        for waiting in waiting {
            let refused = waiting.await.unwrap().unwrap_err();
            let LeaseError::TimedOut { cause, .. } = refused else { panic!("{refused:?}") };
            assert_eq!(cause.is_some(), opens == Opens::Fails, "the cause is reported");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_does_not_pass_reaches_all_waiters_at_once() {
    let (pool, server) = pool(2);
    server.opens(Opens::Refuses);
    let begun = Instant::now();
    let (extend, release, acquire) = tokio::join!(
        pool.lease(Priority::Extend),
        pool.lease(Priority::Release),
        pool.lease(Priority::Acquire)
    );
    for refused in [extend, release, acquire] {
        let refused = refused.unwrap_err();
        assert!(
            matches!(&refused, LeaseError::Failed(e) if **e == "wrong password"),
            "{refused:?}"
        );
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    server.opens(Opens::AtOnce);
    pool.lease(Priority::Acquire).await.unwrap().give_back();
}

/// A changed password must not end what open connections can still do.
#[tokio::test(start_paused = true)]
async fn who_can_be_served_by_an_open_connection_is_not_failed_by_one_that_cannot_be_opened() {
    let (pool, server) = pool(3);
    let held = pool.lease(Priority::Extend).await.unwrap();
    server.opens(Opens::Refuses);
    let log = Log::default();
    let waiting = waits(&pool, Priority::Extend, "extend", &log).await;
    assert!(server.begun.load(SeqCst) > 1, "opening was tried");
    held.give_back();
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_pinged_after_it_was_idle_and_not_while_it_is_hot() {
    let (pool, server) = pool(2);
    pool.open_first().await.unwrap();
    for _ in 0..100 {
        pool.lease(Priority::Acquire).await.unwrap().give_back();
    }
    assert_eq!(server.pings.load(SeqCst), 0);
    sleep(Duration::from_secs(6)).await;
    pool.lease(Priority::Acquire).await.unwrap().give_back();
    assert_eq!((server.pings.load(SeqCst), server.opened.load(SeqCst)), (1, 1));
    pool.suspect_idle();
    pool.lease(Priority::Acquire).await.unwrap().give_back();
    assert_eq!((server.pings.load(SeqCst), server.opened.load(SeqCst)), (2, 1));
    sleep(Duration::from_secs(50)).await;
    pool.lease(Priority::Acquire).await.unwrap().give_back();
    assert_eq!((server.pings.load(SeqCst), server.opened.load(SeqCst)), (2, 2), "it was too old");
}

#[tokio::test(start_paused = true)]
async fn one_ping_without_an_answer_drops_all_connections_of_that_age() {
    let (pool, server) = pool(4);
    let mut leases = Vec::new();
    for _ in 0..4 {
        leases.push(pool.lease(Priority::Extend).await.unwrap());
    }
    leases.into_iter().for_each(super::Lease::give_back);
    sleep(Duration::from_secs(6)).await;
    server.is_silent.store(true, SeqCst);
    let begun = Instant::now();
    let lease = pool.lease(Priority::Acquire).await.unwrap();
    assert_eq!(server.pings.load(SeqCst), 1);
    assert_eq!(begun.elapsed(), super::PING_TIMEOUT);
    assert_eq!(server.opened.load(SeqCst), 5, "a new one was opened");
    lease.give_back();
}

#[tokio::test(start_paused = true)]
async fn the_place_of_an_abandoned_connection_is_free_when_its_session_is_gone() {
    let (pool, server) = pool(2);
    server.keeps_sessions.store(true, SeqCst);
    let first = pool.lease(Priority::Extend).await.unwrap();
    let second = pool.lease(Priority::Extend).await.unwrap();
    first.abandon();
    second.abandon();
    let log = Log::default();
    let waiting = waits(&pool, Priority::Extend, "extend", &log).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(server.opened.load(SeqCst), 2, "no third session beside the two");
    server.keeps_sessions.store(false, SeqCst);
    waiting.await.unwrap().unwrap();
    let ended = server.ended.lock().unwrap().clone();
    assert!(ended.starts_with(&[0]) && ended.contains(&1), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_cannot_be_ended_keeps_its_place_for_a_bounded_time() {
    let (pool, server) = pool(2);
    server.keeps_sessions.store(true, SeqCst);
    let (one, other) =
        (pool.lease(Priority::Extend).await.unwrap(), pool.lease(Priority::Extend).await.unwrap());
    one.abandon();
    other.abandon();
    let begun = Instant::now();
    pool.lease(Priority::Extend).await.unwrap().give_back();
    assert!((MAX_ENDING..MAX_ENDING + OPEN).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[test]
fn where_the_runtime_of_the_pool_has_ended_a_call_says_so_and_was_not_sent() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (home, other) = (runtime(), runtime());
    let (pool, at) = (home.block_on(async { pool(2).0 }), home.handle().clone());
    let call = |pool: Pool<ToServer>, at: Handle| async move {
        let leasing = pool.clone();
        let work = |mut reply: super::Reply<()>| async move {
            reply.started();
            leasing.lease(Priority::Acquire).await.unwrap().give_back();
            reply.send(());
        };
        super::call(&at, work).await
    };
    let waiting = other.spawn(call(pool.clone(), at.clone()));
    other.block_on(yield_now());
    // It is driven by its own runtime alone.
    home.block_on(settled());
    assert_eq!(other.block_on(waiting).unwrap(), Ok(()));
    drop(home);
    assert_eq!(other.block_on(call(pool, at)), Err(Interrupted::NotStarted));
}

/// With real threads: openers that fail at the same time, and waiters that arrive just then.
#[test]
fn openers_that_fail_leave_no_one_waiting() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    runtime.unwrap().block_on(async {
        let (pool, server) = pool(4);
        server.opens(Opens::EveryFourth);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let pool = pool.clone();
            tasks.spawn(async move {
                for _ in 0..8 {
                    // Touched and dropped, so that the next one has to be opened.
                    pool.lease(Priority::Extend).await.unwrap().connection();
                }
            });
        }
        tasks.join_all().await;
        assert!(server.begun.load(SeqCst) > server.opened.load(SeqCst), "opening failed");
    });
}

/// With real threads: however waiters come and go, each connection is returned.
#[test]
fn no_connection_is_lost_when_waiters_come_and_go_on_many_threads() {
    const SIZE: usize = 4;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    runtime.unwrap().block_on(async {
        let (pool, server) = pool(SIZE);
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..64_u64 {
            let pool = pool.clone();
            tasks.spawn(async move {
                for round in 0..300_u64 {
                    let patience = Duration::from_micros((task * 31 + round * 17) % 90);
                    let leasing = pool.lease(match (task + round) % 3 {
                        0 => Priority::Extend,
                        1 => Priority::Release,
                        _ => Priority::Acquire,
                    });
                    if let Ok(Ok(mut lease)) = tokio::time::timeout(patience, leasing).await {
                        lease.connection();
                        yield_now().await;
                        lease.give_back();
                    }
                }
            });
        }
        tasks.join_all().await;
        let mut all = Vec::new();
        for _ in 0..SIZE {
            all.push(pool.lease(Priority::Extend).await.unwrap());
        }
        assert!(server.opened.load(SeqCst) <= SIZE, "{}", server.opened.load(SeqCst));
    });
}
