//! Calls that are ready together go out together.
//!
//! The driver writes each script call to the socket by itself, so that each costs a system call and a
//! packet here and at the server. Nagle's algorithm would join them, at the price of a round trip for
//! every call behind another. So they are joined here: a call enters a queue, and a task on the
//! backend's runtime takes what the queue holds when its turn comes. It never waits for more. A single
//! call goes out as the call that it is, several as batches: one command each, and one write. A call that
//! finds nothing in flight goes out at once, without the queue.
//!
//! # Order
//!
//! Extends are taken first, then what ends grants, then all others; in the order of arrival among each
//! of these. Nothing is held back, so a call overtakes only what became ready in the same turn, or
//! while there was no connection.
//!
//! An abandon may thereby overtake the acquire of its own id, if that acquire is still in the queue.
//! That is safe twice over. Whoever abandons an id does not wait for its acquire any more, and a call
//! that no one waits for is dropped here before it is sent. And where a caller does wait for both, the
//! mark that the abandon leaves refuses the acquire, as it does where the two take different
//! connections. A release never meets its acquire here: it follows the answer.
//!
//! # A server that stands still
//!
//! The number of calls in flight is bounded. Callers who time out ask again, and a server that comes
//! back works through everything that was sent, also what no one waits for any more. Without a bound,
//! thousands of guards that renew their locks would keep it busy with calls of the past until the last
//! of them is lost. Calls beyond the bound wait in the queue, and leave it unsent with their callers.
//!
//! **Invariant:** where calls wait, a task is scheduled that takes them, or calls are in flight, and one
//! of these that ends schedules it. Both sides look under the lock of the queue: a task leaves calls
//! behind only if it sees, or sends, too many calls in flight, and each of those that ends later looks
//! for calls left behind.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering},
    task::Poll,
};

use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{
    Answer, Core, Script,
    link::{Link, POLL},
    send::send,
    words::Words,
};
use crate::{
    error::{Effect, Failure},
    options::Replicas,
};

/// How many calls a batch holds at most. More of them leave the server idle while the client prepares
/// the next ones, and the client while the server is at work.
const BATCH_SIZE: usize = 16;

/// How many calls are in flight at most. It is far more than a server needs to be kept busy.
const MAX_IN_FLIGHT: usize = 1_024;

/// How few calls are in flight when those that wait for the bound are sent: not one for each answer,
/// but in batches.
const REFILL_BELOW: usize = MAX_IN_FLIGHT / 2;

/// One call of a script.
pub(super) struct Call {
    pub(super) script: &'static Script,
    pub(super) words: Words,
    pub(super) replicas: Option<Replicas>,
    pub(super) answer: oneshot::Sender<Result<Answer, Failure>>,
    /// Until when it may wait to be sent.
    pub(super) deadline: Instant,
    pub(super) resends: usize,
    /// Not in a batch: one that it was in was refused.
    pub(super) alone: bool,
}

#[derive(Default)]
pub(super) struct Queue {
    calls: Vec<Call>,
    /// Whether a task is about to take the calls.
    scheduled: bool,
}

/// The task that takes the calls. Dropped before it did, because its runtime has ended, it answers
/// them: nothing was sent.
struct Flush {
    core: Arc<Core>,
    taken: bool,
}

impl Core {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it is locked.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_scheduled(&self) -> bool {
        self.queue().scheduled
    }

    pub(super) fn submit(self: &Arc<Self>, call: Call) {
        let mut queue = self.queue();
        queue.calls.push(call);
        // Where others were left behind, it waits with them.
        if queue.calls.len() == 1 {
            self.schedule(queue);
        }
    }

    /// Notes that so many calls are no longer in flight.
    pub(super) fn ended(self: &Arc<Self>, calls: usize) {
        let before = self.flying.fetch_sub(calls, Ordering::Relaxed);
        if before - calls < REFILL_BELOW {
            let queue = self.queue();
            if !queue.calls.is_empty() {
                self.schedule(queue);
            }
        }
    }

    /// Starts a task that takes the calls, unless there is one.
    fn schedule(self: &Arc<Self>, mut queue: MutexGuard<'_, Queue>) {
        if std::mem::replace(&mut queue.scheduled, true) {
            return;
        }
        drop(queue);
        let flush = Flush { core: self.clone(), taken: false };
        // A runtime that has ended drops the task at once.
        self.home.spawn(flush.run());
    }

    /// Takes the calls that may be sent, those first that must not wait.
    fn take(&self) -> Vec<Call> {
        let now = Instant::now();
        let mut queue = self.queue();
        queue.scheduled = false;
        let mut calls = std::mem::take(&mut queue.calls);
        calls.retain(|call| !call.answer.is_closed());
        let late: Vec<_> = calls.extract_if(.., |call| call.deadline <= now).collect();
        if calls.len() > 1 {
            calls.sort_by_key(|call| call.script.rank);
        }
        let room = MAX_IN_FLIGHT.saturating_sub(self.flying.load(Ordering::Relaxed));
        queue.calls = calls.split_off(room.min(calls.len()));
        drop(queue);
        for call in late {
            call.end(Err(Failure::Unsent(self.settings.command_timeout)));
        }
        calls
    }

    /// Ends the wait of those who have waited too long, and returns whether any is left. If not, the
    /// next call schedules a new task.
    fn expire(&self) -> bool {
        let now = Instant::now();
        let mut queue = self.queue();
        let late: Vec<_> = queue
            .calls
            .extract_if(.., |call| call.answer.is_closed() || call.deadline <= now)
            .collect();
        queue.scheduled = !queue.calls.is_empty();
        let any_left = queue.scheduled;
        drop(queue);
        for call in late {
            call.end(Err(Failure::Unconnected(self.settings.command_timeout)));
        }
        any_left
    }
}

impl Call {
    pub(super) fn end(self, answer: Result<Answer, Failure>) {
        // Whoever asked may have gone.
        drop(self.answer.send(answer));
    }
}

impl Flush {
    async fn run(mut self) {
        let link = self.link().await;
        let calls = match &link {
            Some(_) => self.core.take(),
            None => Vec::new(),
        };
        self.taken = true;
        let Some(link) = link else { return };
        if calls.len() < 2 {
            return send(self.core.clone(), link, calls).await;
        }
        let mut sending = Vec::new();
        for batch in batches(calls, self.core.one_by_one) {
            let mut send = Box::pin(send(self.core.clone(), link.clone(), batch));
            // Handed to the driver here and now, in order; the tasks run in any.
            if poll_fn(|context| Poll::Ready(send.as_mut().poll(context).is_pending())).await {
                sending.push(send);
            }
        }
        let last = sending.pop();
        for send in sending {
            tokio::spawn(send);
        }
        if let Some(last) = last {
            last.await;
        }
    }

    /// Waits for a connection on behalf of all who wait; for nothing where there is one.
    async fn link(&self) -> Option<Arc<Link>> {
        loop {
            match self.core.living() {
                Some(link) if link.is_connected() => return Some(link),
                Some(_) => {}
                None => self.renew().await,
            }
            if !self.core.expire() {
                return None;
            }
            sleep(POLL).await;
        }
    }

    /// Makes a new link, unless all who wait for it give up.
    async fn renew(&self) {
        let mut renewal = pin!(self.core.link());
        loop {
            tokio::select! {
                biased;
                renewed = &mut renewal => {
                    if let Err(unopened) = renewed {
                        let calls = std::mem::take(&mut self.core.queue().calls);
                        calls.into_iter().for_each(|call| call.end(Err(unopened.failure())));
                    }
                    return;
                }
                () = sleep(POLL) => if !self.core.expire() { return },
            }
        }
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        if !self.taken {
            let queue = std::mem::take(&mut *self.core.queue());
            queue.calls.into_iter().for_each(|call| call.end(Err(Failure::Ended(Effect::None))));
        }
    }
}

/// Divides calls into batches without changing their order.
fn batches(calls: Vec<Call>, one_by_one: bool) -> Vec<Vec<Call>> {
    let mut batches: Vec<Vec<Call>> = Vec::new();
    for call in calls {
        match batches.last_mut() {
            Some(batch)
                if batch.len() < BATCH_SIZE && !one_by_one && !call.alone && !batch[0].alone =>
            {
                batch.push(call);
            }
            _ => batches.push(vec![call]),
        }
    }
    batches
}
