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
    started: bool,
}

impl<F: Future<Output: Send> + Send + 'static> Detached<F> {
    pub(crate) fn new(command: Pin<Box<F>>) -> Self {
        Self { command: Some(command), started: false }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for Detached<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.started = true;
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
        // Outside a runtime there is no connection either, and nothing that could send the command.
        if let Some(command) = self.command.take().filter(|_| self.started)
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(command);
        }
    }
}
