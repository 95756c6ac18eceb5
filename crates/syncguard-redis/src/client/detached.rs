use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::runtime::Handle;

/// A command that its caller can stop waiting for but cannot stop.
///
/// The driver keeps a command whose future is dropped while there is no connection, for as long as
/// that takes, and sends it after the reconnect. What cancels a command is the driver's own timeout,
/// and that runs only while the future is polled. So a future that is dropped after its first poll
/// moves into a task and is polled there until it is answered or times out.
pub(crate) struct Detached<F: Future<Output: Send> + Send + 'static> {
    command: Option<Pin<Box<F>>>,
    /// Where it was polled first. It may be dropped elsewhere.
    runtime: Option<Handle>,
}

impl<F: Future<Output: Send> + Send + 'static> Detached<F> {
    pub(crate) fn new(command: Pin<Box<F>>) -> Self {
        Self { command: Some(command), runtime: None }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for Detached<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if self.runtime.is_none() {
            self.runtime = Handle::try_current().ok();
        }
        // Taken out for the poll: what panicked must not be polled again by the drop.
        let Some(mut command) = self.command.take() else {
            return Poll::Pending;
        };
        let polled = command.as_mut().poll(context);
        if polled.is_pending() {
            self.command = Some(command);
        }
        polled
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Detached<F> {
    fn drop(&mut self) {
        if let (Some(command), Some(runtime)) = (self.command.take(), &self.runtime) {
            runtime.spawn(command);
        }
    }
}
