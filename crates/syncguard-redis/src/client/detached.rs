use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::runtime::Handle;

/// A command that its caller can stop waiting for but cannot stop.
///
/// While disconnected, the driver keeps a command whose future is dropped, however long that takes,
/// and sends it after the reconnect. Only the driver's own timeout cancels a command, and that
/// timeout runs only while the future is polled. So a future that is dropped after its first poll
/// moves into a task on the client's runtime, and is polled there until it is answered or times
/// out.
pub(super) struct Detached<F: Future<Output = ()> + Send + 'static> {
    command: Option<Pin<Box<F>>>,
    begun: bool,
    runtime: Handle,
}

impl<F: Future<Output = ()> + Send + 'static> Detached<F> {
    pub(super) fn new(command: F, runtime: Handle) -> Self {
        Self { command: Some(Box::pin(command)), begun: false, runtime }
    }
}

impl<F: Future<Output = ()> + Send + 'static> Future for Detached<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.begun = true;
        // Taken out for the poll: a future that panicked must not be polled again on drop.
        let Some(mut command) = self.command.take() else {
            return Poll::Ready(());
        };
        let polled = command.as_mut().poll(context);
        if polled.is_pending() {
            self.command = Some(command);
        }
        polled
    }
}

impl<F: Future<Output = ()> + Send + 'static> Drop for Detached<F> {
    fn drop(&mut self) {
        if let Some(command) = self.command.take().filter(|_| self.begun) {
            self.runtime.spawn(command);
        }
    }
}
