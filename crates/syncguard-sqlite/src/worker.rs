//! The thread that serves a backend.

use std::{
    convert::Infallible,
    future::pending,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{error::Failure, turn::Rank};

/// A thread with a runtime of its own, on which all requests to a backend are carried out.
///
/// Callers only wait for the result, which any executor can do. So no runtime of a caller, however
/// idle or blocked, keeps a connection from another one, and the timers of a request need none.
///
/// Dropping the worker ends the thread as soon as the requests that were begun are at their end.
#[derive(Debug)]
pub(crate) struct Worker {
    runtime: Handle,
    requests: TaskTracker,
    /// Never sends: the thread ends when it is dropped.
    _life: oneshot::Sender<Infallible>,
}

impl Worker {
    /// Starts the thread.
    pub(crate) fn start() -> Result<Self, Failure> {
        let runtime = Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(Failure::NoWorker)?;
        let handle = runtime.handle().clone();
        let requests = TaskTracker::new();
        let (life, end) = oneshot::channel();
        let begun = requests.clone();
        let serve = async move {
            let _ = end.await;
            begun.close();
            begun.wait().await;
        };
        let thread = thread::Builder::new().name("syncguard-sqlite".to_owned());
        thread.spawn(move || runtime.block_on(serve)).map_err(Failure::NoWorker)?;
        Ok(Self { runtime: handle, requests, _life: life })
    }

    /// Carries out a request on the worker's thread.
    ///
    /// # Cancel safety
    ///
    /// A caller who drops the future takes the request out of the queue. One that was begun is
    /// carried to its end.
    pub(crate) async fn call<T, F>(
        &self,
        rank: Rank,
        request: impl FnOnce(Ticket) -> F,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let ticket = Ticket::new(rank);
        let _left_on_drop = ticket.left.clone().drop_guard();
        let task = self.requests.spawn_on(request(ticket), &self.runtime);
        // It fails where the request panicked, or the thread ended before it.
        task.await.unwrap_or(Err(Failure::CutOff))
    }
}

/// What the queues know of a request.
#[derive(Debug)]
pub(crate) struct Ticket {
    rank: Rank,
    /// Cancelled when the caller goes away.
    left: CancellationToken,
    begun: AtomicBool,
}

impl Ticket {
    pub(crate) fn new(rank: Rank) -> Self {
        Self { rank, left: CancellationToken::new(), begun: AtomicBool::new(false) }
    }

    pub(crate) fn rank(&self) -> Rank {
        self.rank
    }

    /// Records that the request writes from here on.
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Resolves when the caller went away before anything was begun.
    pub(crate) async fn abandoned(&self) {
        if self.begun.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
        self.left.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use syncguard_core::{ErrorKind, Operation};
    use tokio::{sync::oneshot, time::timeout};

    use super::Worker;
    use crate::{error::Failure, turn::Rank};

    fn planted() -> Result<(), Failure> {
        panic!("a planted panic")
    }

    #[tokio::test]
    async fn a_request_that_panics_is_a_typed_error_and_the_next_one_is_served() {
        let worker = Worker::start().unwrap();
        let failure = worker.call(Rank::Other, |_| async { planted() }).await;
        let failure = failure.unwrap_err();
        let error = failure.into_error(Operation::Acquire, "locks.db".as_ref());
        assert_eq!(error.kind(), ErrorKind::ServiceUnavailable, "{error}");
        assert!(error.may_have_applied(), "the request may have written before it panicked");
        assert_eq!(worker.call(Rank::Other, |_| async { Ok(1) }).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_worker_that_ended_is_a_typed_error() {
        let mut worker = Worker::start().unwrap();
        worker._life = oneshot::channel().0;
        let refused = async {
            loop {
                // Until the thread has noticed, it still serves.
                if let Err(failure) = worker.call(Rank::Other, |_| async { Ok(()) }).await {
                    break failure;
                }
            }
        };
        let failure = timeout(Duration::from_secs(10), refused).await.unwrap();
        let error = failure.into_error(Operation::Acquire, "locks.db".as_ref());
        assert_eq!(error.kind(), ErrorKind::ServiceUnavailable, "{error}");
    }
}
