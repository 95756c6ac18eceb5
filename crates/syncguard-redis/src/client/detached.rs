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
/// moves into a task of the client's runtime, and is polled there until it is answered or times out.
pub(super) struct Detached<F: Future<Output = ()> + Send + 'static> {
    command: Option<Pin<Box<F>>>,
    begun: bool,
    home: Handle,
}

impl<F: Future<Output = ()> + Send + 'static> Detached<F> {
    pub(super) fn new(command: F, home: Handle) -> Self {
        Self { command: Some(Box::pin(command)), begun: false, home }
    }
}

impl<F: Future<Output = ()> + Send + 'static> Future for Detached<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.begun = true;
        // Taken out for the poll: what panicked must not be polled again by the drop.
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
            self.home.spawn(command);
        }
    }
}
