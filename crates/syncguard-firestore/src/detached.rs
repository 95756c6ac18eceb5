use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::runtime::Handle;

/// Work that its caller can stop waiting for but cannot stop.
///
/// It is polled in place, so that it costs no task while its caller waits. If it is dropped after
/// its first poll, when a request may be in flight, it moves into a task and runs there to its end.
pub(crate) struct Detached<F: Future<Output: Send> + Send + 'static> {
    work: Option<Pin<Box<F>>>,
    started: bool,
}

impl<F: Future<Output: Send> + Send + 'static> Detached<F> {
    pub(crate) fn new(work: F) -> Self {
        Self { work: Some(Box::pin(work)), started: false }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for Detached<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.started = true;
        // Taken out for the poll: a future that panicked must not be polled again on drop.
        let Some(mut work) = self.work.take() else {
            return Poll::Pending;
        };
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Detached<F> {
    fn drop(&mut self) {
        // Outside a runtime there is no task that could continue.
        if let Some(work) = self.work.take().filter(|_| self.started)
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(work);
        }
    }
}
