//! Requests that wait for a connection together are sent together, the most urgent first.

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

/// How a [`Batcher`] sends requests.
pub trait SendBatch: Send + Sync + 'static {
    /// One request.
    type Request: Send + Sync + 'static;

    /// What the server says to one request.
    type Answer: Send + 'static;

    /// Why there is no answer.
    type Error: Send + Sync + 'static;

    /// A connection that is leased.
    type Leased: Send + 'static;

    /// Leases a connection. The future is dropped where no request waits any more.
    fn lease(&self) -> impl Future<Output = Result<Self::Leased, Self::Error>> + Send;

    /// Sends one request.
    fn send_one(
        &self,
        leased: Self::Leased,
        request: &Self::Request,
    ) -> impl Future<Output = Result<Self::Answer, Self::Error>> + Send;

    /// Sends several requests as one, and returns their answers in the same order.
    ///
    /// `None` stands for a request that was not carried out, because it would have held up or failed the
    /// others. It is sent again, by itself. An error is that of each request.
    fn send_many(
        &self,
        leased: Self::Leased,
        requests: &[Self::Request],
    ) -> impl Future<Output = Result<Vec<Option<Self::Answer>>, Self::Error>> + Send;
}

/// A queue of requests for connections that serve one at a time.
///
/// **Guarantees:**
///
/// - Requests are sent in the order of the times by which they are needed, whenever they arrived. A
///   caller that gives up and asks again therefore comes back to where it stood, and one that has time
///   left does not go before one that has none.
/// - A connection takes as many as wait, up to the size of a batch. No request waits for others to come,
///   and one that waits alone is sent by [`SendBatch::send_one`]. So a batch is large exactly when
///   connections are short: after an outage, requests that piled up are served at many times the rate
///   of single ones.
/// - A request that would hold up or fail the others of its batch is sent by itself, once.
pub struct Batcher<S: SendBatch>(Arc<Inner<S>>);

struct Inner<S: SendBatch> {
    sends: S,
    limits: BatchLimits,
    runtime: Handle,
    queue: Mutex<Queue<S>>,
    emptied: Notify,
}

/// The bounds of a [`Batcher`].
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// How many requests are sent as one at most.
    pub requests: usize,
    /// How many connections are waited for at a time at most.
    pub connections: usize,
}

/// When a request is needed, and the order of arrival among those that are needed at the same time.
type Place = (Instant, u64);

/// **Invariant:** while a request waits, a sender waits for a connection for it, or is about to be
/// spawned by whoever let the request in.
struct Queue<S: SendBatch> {
    waiting: BTreeMap<Place, Waiting<S>>,
    next_ticket: u64,
    /// How many tasks wait for a connection.
    senders: usize,
}

struct Waiting<S: SendBatch> {
    request: S::Request,
    /// Not in a batch again: it would have held up or failed the one that it was in.
    alone: bool,
    reply: Reply<Answered<S>>,
}

type Answered<S> = Result<<S as SendBatch>::Answer, Arc<<S as SendBatch>::Error>>;

impl<S: SendBatch> Batcher<S> {
    /// Makes an empty queue. Requests are sent by tasks on `runtime`.
    pub fn new(sends: S, limits: BatchLimits, runtime: Handle) -> Self {
        let queue = Queue { waiting: BTreeMap::new(), next_ticket: 0, senders: 0 };
        let (queue, emptied) = (Mutex::new(queue), Notify::new());
        Self(Arc::new(Inner { sends, limits, runtime, queue, emptied }))
    }

    /// Sends a request that is needed by a certain time, and returns its answer.
    ///
    /// The time decides on the order alone: a request whose time has passed is sent all the same.
    ///
    /// # Errors
    ///
    /// [`Interrupted`] where the task that sends it ended first.
    ///
    /// # Cancel safety
    ///
    /// A dropped future leaves the queue. A request that was sent is carried to its end.
    pub async fn ask(
        &self,
        needed_by: Instant,
        request: S::Request,
    ) -> Result<Answered<S>, Interrupted> {
        let (reply, answer) = Reply::pair();
        let place = self.0.queue().enter(needed_by, Waiting { request, alone: false, reply });
        let _place = Leaving { batcher: &self.0, place };
        self.0.settle();
        // Dropped before the place: what is put back afterwards finds that no one awaits the reply.
        answer.await
    }
}

impl<S: SendBatch> Inner<S> {
    fn queue(&self) -> MutexGuard<'_, Queue<S>> {
        // Nothing panics while it is locked.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Spawns the senders that are missing: one for each batch that waits, within the limit.
    fn settle(self: &Arc<Self>) {
        let missing = {
            let mut queue = self.queue();
            let batches = queue.waiting.len().div_ceil(self.limits.requests);
            let missing = batches.min(self.limits.connections).saturating_sub(queue.senders);
            queue.senders += missing;
            missing
        };
        for _ in 0..missing {
            let sender = Sender { batcher: self.clone(), waits: true, ran: false };
            // A runtime that has ended drops the task at once.
            self.runtime.spawn(sender.run());
        }
    }

    /// Sends what was taken, and puts back what is to be sent by itself.
    async fn send(&self, leased: S::Leased, taken: Vec<(Place, Waiting<S>)>) {
        let (mut requests, mut replies) = (Vec::new(), Vec::new());
        for (place, mut waiting) in taken {
            waiting.reply.sending();
            requests.push(waiting.request);
            replies.push((place, waiting.reply));
        }
        let answers = match &requests[..] {
            // Those who asked have gone. The connection goes back unused.
            [] => return,
            [request] => self.sends.send_one(leased, request).await.map(|one| vec![Some(one)]),
            several => self.sends.send_many(leased, several).await,
        };
        match answers {
            Ok(answers) => {
                let answers = answers.into_iter().chain(iter::repeat_with(|| None));
                for ((request, (place, mut reply)), answer) in
                    requests.into_iter().zip(replies).zip(answers)
                {
                    match answer {
                        Some(answer) => reply.send(Ok(answer)),
                        None => self.put_back(place, request, reply),
                    }
                }
            }
            Err(error) => {
                fail(replies.into_iter().map(|(_, reply)| reply).collect(), error);
            }
        }
    }

    fn put_back(&self, place: Place, request: S::Request, mut reply: Reply<Answered<S>>) {
        // It was not carried out.
        reply.started();
        let mut queue = self.queue();
        // Looked at under the lock under which a caller that goes away leaves the queue.
        if reply.is_awaited() {
            queue.waiting.insert(place, Waiting { request, alone: true, reply });
        }
    }
}

/// Replies to all with one error. The last one has it to itself.
fn fail<T, E>(replies: Vec<Reply<Result<T, Arc<E>>>>, error: E) {
    let errors = iter::repeat_n(Arc::new(error), replies.len());
    replies.into_iter().zip(errors).for_each(|(mut reply, error)| reply.send(Err(error)));
}

impl<S: SendBatch> Queue<S> {
    fn enter(&mut self, needed_by: Instant, waiting: Waiting<S>) -> Place {
        self.next_ticket += 1;
        let place = (needed_by, self.next_ticket);
        self.waiting.insert(place, waiting);
        place
    }

    /// Takes the most urgent requests, or the first one if that is to be sent by itself.
    fn take(&mut self, limit: usize) -> Vec<(Place, Waiting<S>)> {
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

/// A task that waits for a connection and sends what is most urgent when it has one.
///
/// What it sends is decided only then, not when it begins to wait. So the order in which a pool serves
/// the senders does not matter.
struct Sender<S: SendBatch> {
    batcher: Arc<Inner<S>>,
    /// Whether it is counted among those that wait for a connection.
    waits: bool,
    ran: bool,
}

impl<S: SendBatch> Sender<S> {
    async fn run(mut self) {
        self.ran = true;
        let batcher = self.batcher.clone();
        let leased = tokio::select! {
            biased;
            () = self.no_one_asks() => return,
            leased = batcher.sends.lease() => leased,
        };
        match leased {
            Ok(leased) => {
                let taken = self.take(batcher.limits.requests);
                // What is left is sent over other connections meanwhile.
                batcher.settle();
                batcher.send(leased, taken).await;
                // What was put back.
                batcher.settle();
            }
            Err(error) => {
                let taken = self.take(usize::MAX);
                fail(taken.into_iter().map(|(_, waiting)| waiting.reply).collect(), error);
                batcher.settle();
            }
        }
    }

    /// Resolves when the queue is empty. The sender is taken out of the count under the same lock, so
    /// that whoever comes then finds it missing.
    async fn no_one_asks(&mut self) {
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
    fn take(&mut self, limit: usize) -> Vec<(Place, Waiting<S>)> {
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
        queue.senders -= usize::from(mem::take(&mut self.waits));
    }
}

impl<S: SendBatch> Drop for Sender<S> {
    fn drop(&mut self) {
        if !self.waits {
            return;
        }
        // The runtime has ended. The last sender takes along all that it would have sent.
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

/// The place of a request, which is left on drop.
struct Leaving<'a, S: SendBatch> {
    batcher: &'a Inner<S>,
    place: Place,
}

impl<S: SendBatch> Drop for Leaving<'_, S> {
    fn drop(&mut self) {
        let left = {
            let mut queue = self.batcher.queue();
            let left = queue.waiting.remove(&self.place);
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
