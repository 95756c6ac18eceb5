use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span, level_filters::LevelFilter};

/// A future that its caller can stop waiting for but cannot stop.
///
/// It is polled in place, so that it costs no task while its caller waits. If dropped after its
/// first poll, when a request may be in flight, it moves into a task on its runtime and runs to its
/// end there. Its output is dropped. If dropped before the first poll, it has done nothing and is
/// discarded.
///
/// It may be polled on one runtime and finished on another. If its runtime has ended, or ends
/// first, the future is dropped unfinished.
///
/// A future that panicked is not polled again; it never completes.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use syncguard_core::backend::Detached;
/// use tokio::{runtime::Handle, sync::oneshot, time::timeout};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let (finished, is_finished) = oneshot::channel();
/// let request = async move {
///     tokio::time::sleep(Duration::from_secs(2)).await;
///     finished.send(()).unwrap();
/// };
/// let request = Detached::new(request, Handle::current());
/// assert!(timeout(Duration::from_secs(1), request).await.is_err());
/// is_finished.await.unwrap();
/// # }
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct Detached<T: Send + 'static> {
    future: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    started: bool,
    span: Span,
    runtime: Handle,
    tasks: Option<TaskTracker>,
}

impl<T: Send + 'static> Detached<T> {
    /// Detaches `future` from its caller. It is finished on `runtime`.
    pub fn new(future: impl Future<Output = T> + Send + 'static, runtime: Handle) -> Self {
        let (future, span) = (Some(Box::pin(future) as _), Span::none());
        Self { future, started: false, span, runtime, tasks: None }
    }

    /// Tracks the task into which the future moves. The task is in the span in which the future was
    /// first polled, because it may still end a lock that its caller acquired.
    pub(crate) fn tracked_by(mut self, tasks: TaskTracker) -> Self {
        self.tasks = Some(tasks);
        self
    }
}

impl<T: Send + 'static> Future for Detached<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        // Taken out for the poll: a future that panicked must not be polled again by the drop.
        let this = self.get_mut();
        let Some(mut future) = this.future.take() else {
            return Poll::Pending;
        };
        if !this.started {
            this.started = true;
            // One atomic load without a subscriber; reading the span costs more.
            if this.tasks.is_some() && LevelFilter::current() != LevelFilter::OFF {
                this.span = Span::current();
            }
        }
        let polled = future.as_mut().poll(context);
        if polled.is_pending() {
            this.future = Some(future);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Detached<T> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take().filter(|_| self.started) {
            let span = std::mem::replace(&mut self.span, Span::none());
            let rest = async move { drop(future.await) }.instrument(span);
            match &self.tasks {
                Some(tasks) => tasks.spawn_on(rest, &self.runtime),
                None => self.runtime.spawn(rest),
            };
        }
    }
}

impl<T: Send + 'static> fmt::Debug for Detached<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detached").field("started", &self.started).finish_non_exhaustive()
    }
}
