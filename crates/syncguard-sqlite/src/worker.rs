//! The thread that serves a backend.

use std::{
    convert::Infallible,
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll, Waker},
    thread,
};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{error::Failure, turn::Rank};

/// A thread with its own runtime, on which all requests to a backend are carried out.
///
/// Callers only wait for the result, which any executor can do. Therefore no caller's runtime,
/// however idle or blocked, keeps a connection from another caller, and the timers of a request do
/// not depend on it.
///
/// Dropping the worker ends the thread as soon as the requests that were begun are completed.
#[derive(Debug)]
pub(crate) struct Worker {
    runtime: Handle,
    requests: TaskTracker,
    /// Never sends; the thread ends when this is dropped.
    _keep_alive: oneshot::Sender<Infallible>,
}

impl Worker {
    /// Starts the thread.
    pub(crate) fn start() -> Result<Self, Failure> {
        let runtime = Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(Failure::NoWorker)?;
        let handle = runtime.handle().clone();
        let requests = TaskTracker::new();
        let (keep_alive, end) = oneshot::channel();
        let begun = requests.clone();
        let serve = async move {
            let _ = end.await;
            begun.close();
            begun.wait().await;
        };
        let thread = thread::Builder::new().name("syncguard-sqlite".to_owned());
        thread.spawn(move || runtime.block_on(serve)).map_err(Failure::NoWorker)?;
        Ok(Self { runtime: handle, requests, _keep_alive: keep_alive })
    }

    /// Carries out a request on the worker's thread.
    ///
    /// The caller polls the request once, which puts it into its queue or in flight to SQLite
    /// without waiting for the worker to wake up. From then on the worker polls it: what it holds
    /// by then, such as a turn, must not depend on the caller.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future removes the request from the queue. A request that was begun is
    /// completed.
    pub(crate) async fn call<T, F>(
        &self,
        rank: Rank,
        request: impl FnOnce(Ticket) -> F,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        if self.requests.is_closed() {
            return Err(Failure::CutOff);
        }
        let ticket = Ticket::new(rank);
        let _left_on_drop = ticket.left.clone().drop_guard();
        let mut request = Box::pin(request(ticket));
        match self.poll_once(request.as_mut()) {
            Ok(Poll::Ready(outcome)) => outcome,
            Ok(Poll::Pending) => {
                let task = self.requests.spawn_on(request, &self.runtime);
                // It fails if the request panicked, or if the thread ended before it.
                task.await.unwrap_or(Err(Failure::CutOff))
            }
            Err(panicked) => Err(panicked),
        }
    }

    /// Polls a request with the timers of the worker. A panic becomes an error, as it does in the
    /// worker.
    fn poll_once<F: Future>(&self, request: Pin<&mut F>) -> Result<Poll<F::Output>, Failure> {
        let _timers = self.runtime.enter();
        // The worker polls it again and registers its own waker.
        let mut context = Context::from_waker(Waker::noop());
        let poll = AssertUnwindSafe(|| request.poll(&mut context));
        // After a panic the request is dropped, and its state is not used any more.
        catch_unwind(poll).map_err(|_| Failure::CutOff)
    }
}

/// What the queues know about a request.
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

    /// Resolves if the caller went away before anything was begun.
    pub(crate) async fn caller_left(&self) {
        if self.begun.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
        self.left.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use syncguard_core::ErrorKind;
    use tokio::{sync::oneshot, task::yield_now, time::timeout};

    use super::Worker;
    use crate::{error::Failure, turn::Rank};

    /// Panics on the given poll.
    async fn planted(polls: u32) -> Result<(), Failure> {
        for _ in 1..polls {
            yield_now().await;
        }
        panic!("a planted panic")
    }

    #[tokio::test]
    async fn a_request_that_panics_is_a_typed_error_and_the_next_one_is_served() {
        let worker = Worker::start().unwrap();
        for polls in 1..4 {
            let failure = worker.call(Rank::Other, |_| planted(polls)).await.unwrap_err();
            let error = failure.into_error("locks.db".as_ref());
            assert_eq!(error.kind(), ErrorKind::ServiceUnavailable, "{error}");
            assert!(error.may_have_applied(), "the request may have written before it panicked");
        }
        assert_eq!(worker.call(Rank::Other, |_| async { Ok(1) }).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_worker_that_ended_is_a_typed_error() {
        let mut worker = Worker::start().unwrap();
        worker._keep_alive = oneshot::channel().0;
        let refused = async {
            loop {
                // Until the thread has noticed, it still serves.
                let request = worker.call(Rank::Other, |_| async {
                    yield_now().await;
                    Ok(())
                });
                if let Err(failure) = request.await {
                    break failure;
                }
            }
        };
        let failure = timeout(Duration::from_secs(10), refused).await.unwrap();
        let error = failure.into_error("locks.db".as_ref());
        assert_eq!(error.kind(), ErrorKind::ServiceUnavailable, "{error}");
    }
}
