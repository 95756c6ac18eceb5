//! Batching: requests that wait for a connection at the same time are sent together, the most
//! urgent first.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    iter, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{runtime::Handle, sync::Notify, time::Instant};

use super::{Interrupted, Reply};

/// Sends the requests of a [`Batcher`].
pub trait SendBatch: Send + Sync + 'static {
    /// One request.
    type Request: Send + Sync + 'static;

    /// The server's answer to one request.
    type Answer: Send + 'static;

    /// The error if a request receives no answer.
    type Error: Send + Sync + 'static;

    /// A leased connection.
    type Leased: Send + 'static;

    /// Leases a connection. The future is dropped once no request is waiting.
    fn lease(&self) -> impl Future<Output = Result<Self::Leased, Self::Error>> + Send;

    /// Sends one request.
    fn send_one(
        &self,
        leased: Self::Leased,
        request: &Self::Request,
    ) -> impl Future<Output = Result<Self::Answer, Self::Error>> + Send;

    /// Sends several requests as one, and returns their answers in the order of the requests.
    ///
    /// An answer of `None` means that the request was not carried out, because it would have
    /// delayed or failed the others. Such a request is sent again, alone. An error applies to each
    /// of the requests.
    fn send_many(
        &self,
        leased: Self::Leased,
        requests: &[Self::Request],
    ) -> impl Future<Output = Result<Vec<Option<Self::Answer>>, Self::Error>> + Send;
}

/// Queues requests for connections that serve one at a time.
///
/// **Guarantees:**
///
/// - Requests are sent in the order of the times by which they are needed, whenever they arrived. A
///   caller that times out and sends its request again therefore returns to its old position, and
///   a caller with time left does not precede one without.
/// - A connection sends all waiting requests, up to the size of a batch. No request waits for later
///   ones, and one that waits alone is sent by [`SendBatch::send_one`]. A batch is therefore large
///   exactly when connections are scarce: after an outage, requests that accumulated are served at
///   many times the rate of single requests.
/// - A request that would delay or fail the others of its batch is sent alone, once.
pub struct Batcher<S: SendBatch>(Arc<Inner<S>>);

struct Inner<S: SendBatch> {
    sends: S,
    limits: BatchLimits,
    runtime: Handle,
    queue: Mutex<Queue<S>>,
    emptied: Notify,
}

/// Limits of a [`Batcher`].
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// The maximum number of requests that are sent as one.
    pub requests: usize,
    /// The maximum number of connections that are waited for at a time.
    pub connections: usize,
}

/// When a request is needed, and the order of arrival among those that are needed at the same time.
type Position = (Instant, u64);

/// **Invariant:** while a request is waiting, a sender waits for a connection for it, or the task
/// that queued the request is about to spawn a sender.
struct Queue<S: SendBatch> {
    waiting: BTreeMap<Position, Waiting<S>>,
    next_ticket: u64,
    /// How many tasks wait for a connection.
    senders: usize,
}

struct Waiting<S: SendBatch> {
    request: S::Request,
    /// Whether it must be sent alone, because it would have delayed or failed its batch.
    alone: bool,
    reply: Reply<Answered<S>>,
}

type Answered<S> = Result<<S as SendBatch>::Answer, Arc<<S as SendBatch>::Error>>;

impl<S: SendBatch> Batcher<S> {
    /// Creates an empty queue. Requests are sent by tasks on `runtime`.
    pub fn new(sends: S, limits: BatchLimits, runtime: Handle) -> Self {
        let queue = Queue { waiting: BTreeMap::new(), next_ticket: 0, senders: 0 };
        let (queue, emptied) = (Mutex::new(queue), Notify::new());
        Self(Arc::new(Inner { sends, limits, runtime, queue, emptied }))
    }

    /// Sends a request that is needed by a certain time, and returns its answer.
    ///
    /// The time decides only the order: a request whose time has passed is still sent.
    ///
    /// # Errors
    ///
    /// [`Interrupted`] if the task that sends the request ended first.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future removes the request from the queue. A request that was already sent is
    /// completed.
    pub async fn send(
        &self,
        needed_by: Instant,
        request: S::Request,
    ) -> Result<Answered<S>, Interrupted> {
        let (reply, answer) = Reply::pair();
        let position = self.0.queue().enter(needed_by, Waiting { request, alone: false, reply });
        let _leave_on_drop = LeaveOnDrop { batcher: &self.0, position };
        self.0.spawn_senders();
        // Dropped before `_leave_on_drop`: a request that is requeued afterwards finds that no
        // caller awaits its reply.
        answer.await
    }
}

impl<S: SendBatch> Inner<S> {
    fn queue(&self) -> MutexGuard<'_, Queue<S>> {
        // Nothing panics while it is locked.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Spawns the missing senders: one for each waiting batch, within the limit.
    fn spawn_senders(self: &Arc<Self>) {
        let missing = {
            let mut queue = self.queue();
            let batches = queue.waiting.len().div_ceil(self.limits.requests);
            let missing = batches.min(self.limits.connections).saturating_sub(queue.senders);
            queue.senders += missing;
            missing
        };
        for _ in 0..missing {
            let sender = Sender { batcher: self.clone(), is_waiting: true, ran: false };
            // A runtime that has been shut down drops the task immediately.
            self.runtime.spawn(sender.run());
        }
    }

    /// Sends the requests that were taken, and requeues those that must be sent alone.
    async fn send(&self, leased: S::Leased, taken: Vec<(Position, Waiting<S>)>) {
        let (mut requests, mut replies) = (Vec::new(), Vec::new());
        for (position, mut waiting) in taken {
            waiting.reply.sending();
            requests.push(waiting.request);
            replies.push((position, waiting.reply));
        }
        let answers = match &requests[..] {
            // The callers are gone. The connection is returned unused.
            [] => return,
            [request] => self.sends.send_one(leased, request).await.map(|one| vec![Some(one)]),
            several => self.sends.send_many(leased, several).await,
        };
        match answers {
            Ok(answers) => {
                let answers = answers.into_iter().chain(iter::repeat_with(|| None));
                for ((request, (position, mut reply)), answer) in
                    requests.into_iter().zip(replies).zip(answers)
                {
                    match answer {
                        Some(answer) => reply.send(Ok(answer)),
                        None => self.requeue(position, request, reply),
                    }
                }
            }
            Err(error) => {
                fail(replies.into_iter().map(|(_, reply)| reply).collect(), error);
            }
        }
    }

    fn requeue(&self, position: Position, request: S::Request, mut reply: Reply<Answered<S>>) {
        // It was not carried out.
        reply.started();
        let mut queue = self.queue();
        // Checked under the lock that a caller takes to leave the queue when it is dropped.
        if reply.is_awaited() {
            queue.waiting.insert(position, Waiting { request, alone: true, reply });
        }
    }
}

/// Sends one error as all replies. The last reply becomes its only owner.
fn fail<T, E>(replies: Vec<Reply<Result<T, Arc<E>>>>, error: E) {
    let errors = iter::repeat_n(Arc::new(error), replies.len());
    replies.into_iter().zip(errors).for_each(|(mut reply, error)| reply.send(Err(error)));
}

impl<S: SendBatch> Queue<S> {
    fn enter(&mut self, needed_by: Instant, waiting: Waiting<S>) -> Position {
        self.next_ticket += 1;
        let position = (needed_by, self.next_ticket);
        self.waiting.insert(position, waiting);
        position
    }

    /// Takes the most urgent requests, or only the first if it must be sent alone.
    fn take(&mut self, limit: usize) -> Vec<(Position, Waiting<S>)> {
        let mut taken = Vec::new();
        while let Some(first) = self.waiting.first_entry() {
            let alone = first.get().alone;
            if taken.len() == limit || alone && !taken.is_empty() {
                break;
            }
            taken.push(first.remove_entry());
            if alone {
                break;
            }
        }
        taken
    }
}

/// A task that waits for a connection and then sends the most urgent requests.
///
/// It chooses the requests when it has the connection, not when it begins to wait. Therefore the
/// order in which a pool serves the senders does not matter.
struct Sender<S: SendBatch> {
    batcher: Arc<Inner<S>>,
    /// Whether it is counted among the senders that wait for a connection.
    is_waiting: bool,
    ran: bool,
}

impl<S: SendBatch> Sender<S> {
    async fn run(mut self) {
        self.ran = true;
        let batcher = self.batcher.clone();
        let leased = tokio::select! {
            biased;
            () = self.queue_emptied() => return,
            leased = batcher.sends.lease() => leased,
        };
        match leased {
            Ok(leased) => {
                let taken = self.take(batcher.limits.requests);
                // Other connections send the remaining requests at the same time.
                batcher.spawn_senders();
                batcher.send(leased, taken).await;
                // For the requests that were requeued.
                batcher.spawn_senders();
            }
            Err(error) => {
                let taken = self.take(usize::MAX);
                fail(taken.into_iter().map(|(_, waiting)| waiting.reply).collect(), error);
                batcher.spawn_senders();
            }
        }
    }

    /// Resolves when the queue is empty. The sender is removed from the count under the same lock,
    /// so that the next request finds it missing.
    async fn queue_emptied(&mut self) {
        let batcher = self.batcher.clone();
        loop {
            let emptied = batcher.emptied.notified();
            {
                let mut queue = batcher.queue();
                if queue.waiting.is_empty() {
                    self.leave(&mut queue);
                    return;
                }
            }
            emptied.await;
        }
    }

    /// Stops waiting and takes the most urgent requests.
    fn take(&mut self, limit: usize) -> Vec<(Position, Waiting<S>)> {
        let batcher = self.batcher.clone();
        let mut queue = batcher.queue();
        self.leave(&mut queue);
        let taken = queue.take(limit);
        if queue.waiting.is_empty() {
            batcher.emptied.notify_waiters();
        }
        taken
    }

    fn leave(&mut self, queue: &mut Queue<S>) {
        queue.senders -= usize::from(mem::take(&mut self.is_waiting));
    }
}

impl<S: SendBatch> Drop for Sender<S> {
    fn drop(&mut self) {
        if !self.is_waiting {
            return;
        }
        // The runtime has been shut down. The last sender drops all waiting requests.
        let abandoned = {
            let batcher = self.batcher.clone();
            let mut queue = batcher.queue();
            self.leave(&mut queue);
            match queue.senders {
                0 => mem::take(&mut queue.waiting),
                _ => BTreeMap::new(),
            }
        };
        for (_, mut waiting) in abandoned {
            if self.ran {
                waiting.reply.started();
            }
        }
    }
}

/// Removes a request from the queue on drop.
struct LeaveOnDrop<'a, S: SendBatch> {
    batcher: &'a Inner<S>,
    position: Position,
}

impl<S: SendBatch> Drop for LeaveOnDrop<'_, S> {
    fn drop(&mut self) {
        let left = {
            let mut queue = self.batcher.queue();
            let left = queue.waiting.remove(&self.position);
            if left.is_some() && queue.waiting.is_empty() {
                self.batcher.emptied.notify_waiters();
            }
            left
        };
        drop(left);
    }
}

impl<S: SendBatch> fmt::Debug for Batcher<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}
