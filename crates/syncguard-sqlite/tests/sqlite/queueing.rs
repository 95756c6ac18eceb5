//! The order in which requests to a backend are served.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use syncguard_core::{
    Error,
    backend::{AcquireOutcome, AcquireRequest, LockBackend},
};
use syncguard_sqlite::SqliteBackend;
use tokio::time::timeout;

use crate::{Foreign, Scratch, granted, key, lock_of, request, ttl};

/// Makes the database record the order of its writes.
const LOG: &str = "
    CREATE TABLE log (n INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT);
    CREATE TRIGGER log_acquire AFTER INSERT ON syncguard_locks
        BEGIN INSERT INTO log (what) VALUES ('acquire'); END;
    CREATE TRIGGER log_release AFTER UPDATE ON syncguard_locks WHEN NEW.lock_id IS NULL
        BEGIN INSERT INTO log (what) VALUES ('release'); END;
    CREATE TRIGGER log_extend AFTER UPDATE ON syncguard_locks WHEN NEW.lock_id = OLD.lock_id
        BEGIN INSERT INTO log (what) VALUES ('extend'); END;
    CREATE TRIGGER log_abandon AFTER INSERT ON syncguard_abandoned
        BEGIN INSERT INTO log (what) VALUES ('abandon'); END";

type AcquireFuture<'a> = Pin<Box<dyn Future<Output = Result<AcquireOutcome, Error>> + Send + 'a>>;

/// Begins an acquire, so that it is in the queue before the next request.
async fn enqueue<'a>(backend: &'a SqliteBackend, request: &'a AcquireRequest) -> AcquireFuture<'a> {
    let mut acquiring: AcquireFuture<'a> = Box::pin(backend.acquire(request));
    assert!(is_pending(&mut acquiring).await);
    settle(backend).await;
    acquiring
}

pub(crate) async fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context).is_pending())).await
}

/// Returns once every earlier request has read and has joined the queue for writing. Reads are
/// served in the order of arrival, and tasks that are ready are polled before a second read.
pub(crate) async fn settle(backend: &SqliteBackend) {
    for _ in 0..2 {
        backend.is_locked(&key("unrelated")).await.unwrap();
    }
}

#[tokio::test]
async fn extends_overtake_releases_and_both_overtake_acquires() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let (kept, given_back) = (request("kept"), request("given back"));
    granted(&backend, &kept).await;
    granted(&backend, &given_back).await;
    let mut foreign = scratch.foreign().await;
    foreign.run(LOG).await;
    foreign.block_writers().await;
    let wanted: Vec<_> = (0..5).map(|number| request(&format!("wanted-{number}"))).collect();
    let mut acquiring = Vec::new();
    for request in &wanted {
        acquiring.push(enqueue(&backend, request).await);
    }
    let left = request("left");
    let (kept, given_back) = (lock_of(&kept), lock_of(&given_back));
    let mut releasing = Box::pin(backend.release(&given_back));
    assert!(is_pending(&mut releasing).await);
    let mut abandoning = Box::pin(backend.abandon(left.lock_id, &left.key));
    assert!(is_pending(&mut abandoning).await);
    let mut extending = Box::pin(backend.extend(&kept, ttl(60_000)));
    assert!(is_pending(&mut extending).await);
    settle(&backend).await;
    foreign.unblock_writers().await;
    for acquiring in acquiring {
        assert!(matches!(acquiring.await.unwrap(), AcquireOutcome::Granted(_)));
    }
    let _ = (releasing.await.unwrap(), abandoning.await.unwrap(), extending.await.unwrap());
    let order = foreign.texts("SELECT what FROM log ORDER BY n").await;
    // An attempt of the first acquire may have been in progress when the database became free.
    let under_way = usize::from(order[0] == "acquire");
    let (first, rest) = order[under_way..].split_at(3);
    assert_eq!(first, ["extend", "release", "abandon"], "{order:?}");
    assert_eq!(rest.len() + under_way, 5, "{order:?}");
}

#[tokio::test]
async fn a_request_dropped_in_the_queue_changes_nothing_and_one_that_began_completes() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let mut foreign = scratch.foreign().await;
    foreign.block_writers().await;
    let (begun, queued) = (request("begun"), request("queued"));
    let first = enqueue(&backend, &begun).await;
    let second = enqueue(&backend, &queued).await;
    drop((first, second));
    foreign.unblock_writers().await;
    // It queues behind what remains of them.
    granted(&backend, &request("last")).await;
    assert_eq!(stored(&mut foreign).await, ["begun", "last"]);
    assert!(backend.is_locked(&begun.key).await.unwrap());
}

#[tokio::test]
async fn an_abandon_that_wrote_its_tombstone_ends_the_grant_although_it_was_dropped() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let held = request("held");
    granted(&backend, &held).await;
    let mut foreign = scratch.foreign().await;
    foreign.block_writers().await;
    let mut abandoning = Box::pin(backend.abandon(held.lock_id, &held.key));
    assert!(is_pending(&mut abandoning).await);
    settle(&backend).await;
    drop(abandoning);
    foreign.unblock_writers().await;
    let is_over = async {
        while backend.is_locked(&held.key).await.unwrap() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), is_over).await.expect("it stopped half-way");
    let tombstones = foreign.texts("SELECT lock_id FROM syncguard_abandoned").await;
    assert_eq!(tombstones, [held.lock_id.as_str()]);
}

async fn stored(foreign: &mut Foreign) -> Vec<String> {
    foreign.texts("SELECT key FROM syncguard_locks ORDER BY key").await
}
