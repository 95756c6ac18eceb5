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
/// first poll, when a request may be in flight, it moves into a task on `host` and runs to its end
/// there. Its output is dropped, and a grant that is dropped is released. If dropped before the
/// first poll, it has done nothing and is discarded.
///
/// It must not depend on the runtime that polls it: its timers are [`Timer`](super::timer::Timer)s.
/// If `host` has ended, the future is dropped, and its remaining duties pass to a
/// [`Cleanup`](super::cleanup::Cleanup).
pub(crate) struct Detached<T: Send + 'static> {
    future: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    started: bool,
    /// The span in which it was first polled, for the work after its caller has gone.
    span: Span,
    host: Handle,
    tasks: TaskTracker,
}

impl<T: Send + 'static> Detached<T> {
    pub(crate) fn new(
        future: impl Future<Output = T> + Send + 'static,
        host: Handle,
        tasks: TaskTracker,
    ) -> Self {
        let (future, span) = (Some(Box::pin(future) as _), Span::none());
        Self { future, started: false, span, host, tasks }
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
            if LevelFilter::current() != LevelFilter::OFF {
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
            let rest = async move { drop(future.await) };
            self.tasks.spawn_on(rest.instrument(span), &self.host);
        }
    }
}

impl<T: Send + 'static> fmt::Debug for Detached<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detached").field("started", &self.started).finish_non_exhaustive()
    }
}
