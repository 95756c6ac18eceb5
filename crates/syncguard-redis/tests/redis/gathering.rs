//! Calls that are ready together.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use syncguard_core::{
    ErrorKind,
    backend::{AcquireOutcome, LockBackend},
};
use syncguard_redis::RedisBackend;
use syncguard_testkit::{
    operations::{
        LONG, ask, error_of, eventually, extended, granted, is_locked, key, lock_of, released, ttl,
    },
    proxy::{Flow, Occurrences, Proxy, Tally},
    server::RedisServer,
};
use tokio::task::{JoinSet, yield_now};

use crate::{config, connect, safe};

const TASKS: usize = 64;

/// The maximum number of calls in flight.
const MAX_IN_FLIGHT: usize = 1_024;

async fn started() -> (RedisServer, Proxy, RedisBackend) {
    let server = safe().start().await.unwrap();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let backend = connect(&server.url_through(proxy.address())).await;
    (server, proxy, backend)
}

fn commands(proxy: &Proxy) -> Tally {
    proxy.tally(Flow::Requests, || Occurrences::of("\r\nEVALSHA\r\n"))
}

/// Acquires `count` keys in tasks that are ready together.
async fn acquire_all(backend: &RedisBackend, key: &str, count: usize) -> Vec<AcquireOutcome> {
    let mut tasks = JoinSet::new();
    for task in 0..count {
        let (backend, request) = (backend.clone(), ask(&format!("{key}{task}"), LONG));
        tasks.spawn(async move { backend.acquire(&request).await.unwrap() });
    }
    tasks.join_all().await
}

#[tokio::test]
async fn calls_that_are_ready_together_are_sent_as_few_commands() {
    let (_server, proxy, backend) = started().await;
    acquire_all(&backend, "warm-up", TASKS).await;
    let commands = commands(&proxy);
    let outcomes = acquire_all(&backend, "k", TASKS).await;
    for outcome in outcomes {
        let AcquireOutcome::Granted(grant) = outcome else { panic!("{outcome:?}") };
        assert_eq!(grant.fence.number(), 1);
    }
    // The first call finds nothing in flight and is sent immediately.
    assert!(commands.total() <= 1 + TASKS as u64 / 16, "{}", commands.total());
}

/// A worker runs a task that was just spawned before the others that are ready.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn calls_that_are_ready_together_on_a_worker_are_sent_as_few_commands() {
    let (_server, proxy, backend) = started().await;
    acquire_all(&backend, "warm-up", TASKS).await;
    let commands = commands(&proxy);
    let together = tokio::spawn(async move { acquire_all(&backend, "k", TASKS).await.len() });
    assert_eq!(together.await.unwrap(), TASKS);
    assert!(commands.total() <= TASKS as u64 / 4, "{}", commands.total());
}

/// Each word costs the server time: it is copied into a table of the script, and the table grows.
#[tokio::test]
async fn a_lock_that_no_one_else_wants_sends_only_the_words_that_it_needs() {
    let (_server, proxy, backend) = started().await;
    let of_length = |words: usize| {
        let command = format!("*{words}\r\n$7\r\nEVALSHA\r\n");
        proxy.tally(Flow::Requests, move || Occurrences::of(command.as_str()))
    };
    // The command, the hash and the number of keys; then the keys and the arguments.
    let (acquires, releases) = (of_length(3 + 4 + 4), of_length(3 + 4 + 1));
    let request = ask("k", LONG);
    granted(&backend, &request).await;
    assert!(released(&backend, &request).await);
    assert_eq!((acquires.total(), releases.total()), (1, 1));
}

/// The lock layer boxes them, so each of its requests allocates that much.
#[tokio::test]
async fn the_futures_of_the_operations_are_small() {
    let (_server, _proxy, backend) = started().await;
    let request = ask("k", LONG);
    let lock = lock_of(&request);
    let sizes = [
        size_of_val(&backend.acquire(&request)),
        size_of_val(&backend.extend(&lock, ttl(LONG))),
        size_of_val(&backend.release(&lock)),
        size_of_val(&backend.abandon(request.lock_id, &request.key)),
    ];
    assert!(sizes.iter().all(|size| *size < 2_048), "{sizes:?}");
}

#[tokio::test]
async fn each_call_of_a_batch_receives_its_own_reply() {
    let (server, proxy, backend) = started().await;
    let [held, theirs, gone, abandoned] = ["held", "theirs", "gone", "off"].map(|k| ask(k, LONG));
    for request in [&held, &theirs, &abandoned] {
        granted(&backend, request).await;
    }
    server.command(&["HSET", "syncguard:hash", "a", "b"]).await.unwrap();
    server.command(&["SET", "syncguard:nonsense", "nonsense"]).await.unwrap();
    let [hash, nonsense, contender, fresh] =
        ["hash", "nonsense", "theirs", "fresh"].map(|k| ask(k, LONG));
    let commands = commands(&proxy);
    // The first call is sent by itself, and all others together. One of their replies is an error
    // of the server.
    let (fresh, hash, nonsense, contender, held_extended, gone_extended, off, again) = tokio::join!(
        backend.acquire(&fresh),
        backend.acquire(&hash),
        backend.acquire(&nonsense),
        backend.acquire(&contender),
        extended(&backend, &held),
        extended(&backend, &gone),
        backend.abandon(abandoned.lock_id, &abandoned.key),
        granted(&backend, &theirs),
    );
    for answer in [hash, nonsense] {
        let error = error_of(answer, ErrorKind::Internal);
        assert!(!error.may_have_applied(), "{error:?}");
    }
    let AcquireOutcome::Contended { holder: Some(holder) } = contender.unwrap() else {
        panic!("contended by none");
    };
    assert_eq!(holder.fence, Some(again.fence));
    assert!(matches!(fresh.unwrap(), AcquireOutcome::Granted(_)));
    assert!(held_extended && !gone_extended);
    off.unwrap();
    assert!(!is_locked(&backend, "off").await);
    // The batch, whose script body had to be sent, and the index lookup for the lock that is gone.
    assert!(commands.total() <= 3, "{}", commands.total());
    assert!(released(&backend, &held).await);
}

/// The server refuses a whole batch because of one key that its user may not access.
#[tokio::test]
async fn a_forbidden_call_does_not_fail_the_rest_of_its_batch() {
    let server = safe().start().await.unwrap();
    let user = "ACL SETUSER app on >secret +@all &* ~syncguard:mine* ~syncguard:fence:syncguard:mine* \
                ~syncguard:id:*";
    server.command(&user.split_whitespace().collect::<Vec<_>>()).await.unwrap();
    let url = server.url().replace("redis://", "redis://app:secret@");
    let backend = connect(&url).await;
    let [one, other, foreign] = ["mine1", "mine2", "foreign"].map(|key| ask(key, LONG));
    let (one, foreign, other) =
        tokio::join!(backend.acquire(&one), backend.acquire(&foreign), backend.acquire(&other));
    assert!(matches!(one.unwrap(), AcquireOutcome::Granted(_)));
    assert!(matches!(other.unwrap(), AcquireOutcome::Granted(_)));
    let error = error_of(foreign, ErrorKind::AuthFailed);
    assert!(!error.may_have_applied(), "{error:?}");
}

/// The slow log records all commands in the order of arrival.
#[tokio::test]
async fn extends_are_sent_before_releases_and_releases_before_acquires() {
    let log_all = safe().setting("slowlog-log-slower-than", "0").setting("slowlog-max-len", "2000");
    let server = log_all.start().await.unwrap();
    let backend = connect(&server.url()).await;
    acquire_all(&backend, "warm-up", TASKS).await;
    let [kept, ended] = ["kept", "ended"].map(|key| ask(key, LONG));
    granted(&backend, &kept).await;
    granted(&backend, &ended).await;
    let asked: Vec<_> = (0..40).map(|number| ask(&format!("new{number}"), LONG)).collect();
    server.command(&["SLOWLOG", "RESET"]).await.unwrap();
    let mut acquires = JoinSet::new();
    // The first is sent immediately, and all others while it is in flight.
    for request in asked {
        let backend = backend.clone();
        acquires.spawn(async move { drop(backend.acquire(&request).await) });
    }
    let (ending, keeping) = (backend.clone(), backend.clone());
    acquires.spawn(async move { drop(ending.release(&lock_of(&ended)).await) });
    acquires.spawn(async move { drop(keeping.extend(&lock_of(&kept), ttl(LONG)).await) });
    acquires.join_all().await;
    let log = server.command(&["SLOWLOG", "GET", "2000"]).await.unwrap();
    // The newest entry comes first, and the commands of a script come before the script. So the
    // last line that names a lock is the first command on it.
    let words = log.lines().collect::<Vec<_>>();
    let place = |name: &str| words.iter().rposition(|word| *word == name).unwrap();
    let (kept, ended, new) =
        (place("syncguard:kept"), place("syncguard:ended"), place("syncguard:new1"));
    assert!(kept > ended && ended > new, "{kept} {ended} {new}");
}

/// An acquire whose future is dropped while it waits in the queue has no waiter, so it is not sent.
#[tokio::test]
async fn a_call_whose_future_is_dropped_in_the_queue_is_not_sent() {
    let (server, proxy, backend) = started().await;
    granted(&backend, &ask("warm-up", LONG)).await;
    let commands = commands(&proxy);
    let request = ask("job", LONG);
    let other = ask("other", LONG);
    {
        let mut other = pin!(backend.acquire(&other));
        let mut acquire = pin!(backend.acquire(&request));
        // `other` is in flight, so this call enters the queue.
        let polled = poll_fn(|context| {
            let pending = other.as_mut().poll(context).is_pending();
            Poll::Ready(pending && acquire.as_mut().poll(context).is_pending())
        });
        assert!(polled.await, "both are dropped after their first poll");
    }
    granted(&backend, &other).await;
    assert_eq!(commands.total(), 2, "the other, twice");
    assert_eq!(server.command(&["EXISTS", "syncguard:job"]).await.unwrap(), "0");
}

/// Otherwise a server that resumes would have to work through all calls that have no waiter any
/// more.
#[tokio::test]
async fn a_stalled_server_receives_a_bounded_number_of_calls() {
    let (server, proxy, backend) = started().await;
    acquire_all(&backend, "warm-up", TASKS).await;
    let commands = commands(&proxy);
    server.pause().unwrap();
    for round in 0..4 {
        let mut tasks = JoinSet::new();
        for task in 0..MAX_IN_FLIGHT {
            let (backend, request) = (backend.clone(), ask(&format!("{round} {task}"), LONG));
            tasks.spawn(async move { drop(backend.acquire(&request).await) });
        }
        for _ in 0..10 {
            yield_now().await;
        }
        tasks.shutdown().await;
    }
    server.resume().unwrap();
    granted(&backend, &ask("job", LONG)).await;
    // The calls of one round and a few that were sent alone, not those of four rounds.
    assert!(commands.total() as usize <= 2 * MAX_IN_FLIGHT / 16, "{}", commands.total());
}

#[tokio::test]
async fn calls_beyond_the_limit_are_sent_as_others_complete() {
    let (_server, _proxy, backend) = started().await;
    let outcomes = acquire_all(&backend, "k", 3 * MAX_IN_FLIGHT).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, AcquireOutcome::Granted(_))));
}

#[tokio::test]
async fn a_call_that_times_out_in_the_queue_was_not_applied() {
    let server = safe().start().await.unwrap();
    let timeout = Duration::from_millis(500);
    let backend =
        RedisBackend::connect(config(&server.url()).command_timeout(timeout)).await.unwrap();
    granted(&backend, &ask("warm-up", LONG)).await;
    server.pause().unwrap();
    let mut tasks = JoinSet::new();
    for task in 0..3 * MAX_IN_FLIGHT {
        let (backend, request) = (backend.clone(), ask(&task.to_string(), LONG));
        tasks.spawn(async move { backend.acquire(&request).await.unwrap_err() });
    }
    let errors = tasks.join_all().await;
    server.resume().unwrap();
    let unapplied = errors.iter().filter(|error| !error.may_have_applied()).count();
    // Calls that time out at the same moment as the first ones may or may not have been sent in
    // their place.
    assert!((MAX_IN_FLIGHT..=2 * MAX_IN_FLIGHT).contains(&unapplied), "{unapplied}");
}

#[tokio::test]
async fn a_batch_whose_script_is_no_longer_cached_is_sent_again() {
    let (server, _proxy, backend) = started().await;
    acquire_all(&backend, "a", TASKS).await;
    server.command(&["SCRIPT", "FLUSH"]).await.unwrap();
    let outcomes = acquire_all(&backend, "b", TASKS).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, AcquireOutcome::Granted(_))));
}

/// The primary turned into a replica. The error is not hidden inside the reply to a batch, so the
/// driver looks for the primary, and the outcome is reported as unknown.
#[tokio::test]
async fn a_batch_on_a_server_that_turned_read_only_is_unavailable_and_makes_the_driver_reconnect() {
    let (server, proxy, backend) = started().await;
    let other = safe().start().await.unwrap();
    acquire_all(&backend, "a", TASKS).await;
    let port = other.port().to_string();
    server.command(&["REPLICAOF", "127.0.0.1", &port]).await.unwrap();
    let connections = proxy.counts().connections;
    let ([one, two], free) = (["b1", "b2"].map(|key| ask(key, LONG)), key("c"));
    // A replica serves reads, so the first call, which is sent by itself, succeeds.
    let (_, one, two) =
        tokio::join!(backend.is_locked(&free), backend.acquire(&one), backend.acquire(&two));
    for answer in [one, two] {
        let error = error_of(answer, ErrorKind::ServiceUnavailable);
        assert!(error.may_have_applied(), "{error:?}");
    }
    let connected_anew = async || proxy.counts().connections > connections;
    eventually("the driver looks for the primary", connected_anew).await;
}
