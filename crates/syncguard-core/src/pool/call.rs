use std::future::Future;

use tokio::{runtime::Handle, sync::oneshot};

/// How far an operation had come when its task ended without a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupted {
    /// The task never ran: the runtime of the pool has been shut down.
    NotStarted,
    /// Nothing was sent.
    NotSent,
    /// Something was sent.
    Sent,
}

/// Takes the result of an operation. If it is dropped without one, the caller learns how far the
/// operation had come.
#[derive(Debug)]
pub struct Reply<T> {
    caller: Option<oneshot::Sender<Result<T, Interrupted>>>,
    progress: Interrupted,
}

/// Runs an operation in its own task, on the runtime of a pool, and returns its reply.
///
/// In the caller's task, a future that is not polled again after its first poll would keep a
/// connection from all other callers, and a dropped future would leave a connection in the middle
/// of an answer. A connection is driven by the runtime that it was opened on, whichever runtime the
/// caller is on, if it is on any.
///
/// # Errors
///
/// [`Interrupted`] if the task ended first, because its runtime was shut down or because it
/// panicked.
///
/// # Cancel safety
///
/// Dropping the future does not stop the operation, which is notified by [`Reply::caller_gone`].
pub async fn call<T, F>(
    runtime: &Handle,
    operation: impl FnOnce(Reply<T>) -> F,
) -> Result<T, Interrupted>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (reply, answer) = Reply::pair();
    runtime.spawn(operation(reply));
    answer.await
}

/// Runs work of a driver in its own task, on the current runtime, and returns its result. Drivers
/// panic on some malformed messages; such a panic ends only that task.
///
/// # Errors
///
/// [`NotStarted`](Interrupted::NotStarted) if the runtime has been shut down, and
/// [`NotSent`](Interrupted::NotSent) if the work panicked.
///
/// # Cancel safety
///
/// Dropping the future stops the work.
pub async fn contained<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Interrupted> {
    let running = |mut reply: Reply<T>| async move {
        reply.started();
        let done = tokio::select! {
            biased;
            () = reply.caller_gone() => return,
            done = work => done,
        };
        reply.send(done);
    };
    call(&Handle::current(), running).await
}

impl<T> Reply<T> {
    /// Creates the reply of an operation that has not started, and the future that its caller
    /// awaits.
    pub(super) fn pair() -> (Self, impl Future<Output = Result<T, Interrupted>>) {
        let (caller, answer) = oneshot::channel();
        // Every reply is sent, at the latest when it is dropped.
        let answer = async move { answer.await.unwrap_or(Err(Interrupted::Sent)) };
        (Self { caller: Some(caller), progress: Interrupted::NotStarted }, answer)
    }

    /// Returns whether someone still awaits the reply.
    pub(super) fn is_awaited(&self) -> bool {
        self.caller.as_ref().is_some_and(|caller| !caller.is_closed())
    }

    /// Records that the task runs.
    pub fn started(&mut self) {
        self.progress = Interrupted::NotSent;
    }

    /// Records that something is sent from now on.
    pub fn sending(&mut self) {
        self.progress = Interrupted::Sent;
    }

    /// Resolves when no one awaits the reply any longer, because the caller was dropped.
    pub async fn caller_gone(&mut self) {
        if let Some(caller) = &mut self.caller {
            caller.closed().await;
        }
    }

    /// Sends the result, once. The operation may continue.
    pub fn send(&mut self, result: T) {
        if let Some(caller) = self.caller.take() {
            // A caller that was dropped needs no reply.
            let _ = caller.send(Ok(result));
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(caller) = self.caller.take() {
            let _ = caller.send(Err(self.progress));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use tokio::{sync::oneshot, time::timeout};

    use super::{Interrupted, contained};

    #[tokio::test]
    async fn work_that_panics_is_interrupted_and_takes_no_one_with_it() {
        let work = contained::<()>(async { panic!("as a driver does on a malformed message") });
        assert_eq!(work.await, Err(Interrupted::NotSent));
        assert_eq!(contained(async { 7 }).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_stopped_when_its_caller_has_gone() {
        let (alive, mut ended) = oneshot::channel::<()>();
        let work = contained(async move {
            pending::<()>().await;
            drop(alive);
        });
        assert!(timeout(Duration::from_millis(1), work).await.is_err());
        let ended = timeout(Duration::from_secs(1), &mut ended).await;
        assert!(ended.expect("the work has been dropped").is_err());
    }
}
