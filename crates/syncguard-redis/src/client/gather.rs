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
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};

use super::{
    call::Call,
    connection::Connection,
    link::{Link, POLL},
    send::{batches, evaluate, hand_out},
};
use crate::error::{Effect, Failure};

/// How many calls are in flight at most. It is far more than a server needs to be kept busy.
const MAX_IN_FLIGHT: usize = 1_024;

/// How few calls are in flight when those that wait for the bound are sent: not one for each answer,
/// but in batches.
const REFILL_BELOW: usize = MAX_IN_FLIGHT / 2;

/// What the tasks of a client share.
pub(super) struct Core {
    pub(super) connection: Connection,
    pub(super) home: Handle,
    /// On a cluster, where calls have slots of their own.
    one_by_one: bool,
    queue: Mutex<Queue>,
    /// How many calls of scripts are in flight.
    flying: AtomicUsize,
}

#[derive(Default)]
struct Queue {
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

/// Counts calls as in flight, until it is dropped.
struct Flying<'a> {
    core: &'a Arc<Core>,
    calls: usize,
}

impl Core {
    pub(super) fn new(connection: Connection, home: Handle) -> Self {
        Self {
            one_by_one: connection.settings.is_cluster(),
            connection,
            home,
            queue: Mutex::default(),
            flying: AtomicUsize::new(0),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it is locked.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether nothing is in flight or about to be.
    pub(super) fn is_idle(&self) -> bool {
        self.flying.load(Ordering::Relaxed) == 0 && !self.queue().scheduled
    }

    /// Sends some calls as one command, hands out their answers, and queues those again that go out
    /// once more.
    pub(super) async fn send(self: Arc<Self>, link: Arc<Link>, calls: Vec<Call>) {
        if calls.is_empty() {
            return;
        }
        let flying = Flying::new(&self, calls.len());
        let answer = evaluate(&link, &calls).await;
        drop(flying);
        for call in hand_out(calls, answer) {
            self.submit(call);
        }
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
    fn ended(self: &Arc<Self>, calls: usize) {
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
            call.end(Err(Failure::Unsent(self.connection.settings.command_timeout)));
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
            call.end(Err(Failure::Unconnected(self.connection.settings.command_timeout)));
        }
        any_left
    }
}

impl<'a> Flying<'a> {
    fn new(core: &'a Arc<Core>, calls: usize) -> Self {
        core.flying.fetch_add(calls, Ordering::Relaxed);
        Self { core, calls }
    }
}

impl Drop for Flying<'_> {
    fn drop(&mut self) {
        self.core.ended(self.calls);
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
            return self.core.clone().send(link, calls).await;
        }
        let mut sending = Vec::new();
        for batch in batches(calls, self.core.one_by_one) {
            let mut send = Box::pin(self.core.clone().send(link.clone(), batch));
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
            match self.core.connection.living() {
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
        let mut renewal = pin!(self.core.connection.link());
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
