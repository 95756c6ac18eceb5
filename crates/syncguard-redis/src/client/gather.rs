//! Sends calls that are ready at the same time together.
//!
//! The driver writes each script call to the socket separately, so each costs a system call and a
//! packet here and at the server. Nagle's algorithm would join them, but a call would wait up to a
//! round trip for the reply to the one before it. So they are joined here: a call enters a queue,
//! and a task on the backend's runtime takes what the queue holds when it is scheduled. It never
//! waits for more. A single call is sent unchanged. Several calls are sent as batches: one command
//! each, and one write. A call that finds nothing in flight is sent immediately, without the queue.
//!
//! # Order
//!
//! Extends are taken first, then the calls that end grants, then all others, each in the order of
//! arrival. Nothing is held back, so a call overtakes only what became ready in the same turn, or
//! while there was no connection.
//!
//! An abandon may thereby overtake the acquire of its own id, if that acquire is still in the
//! queue. That is safe for two reasons. A caller that abandons an id no longer waits for its
//! acquire, and a call that has no waiter is dropped here before it is sent. If a caller does wait
//! for both, the tombstone that the abandon leaves refuses the acquire, as it does if the two take
//! different connections. A release is never in the queue together with its acquire, because it
//! follows the reply to that acquire.
//!
//! # A stalled server
//!
//! The number of calls in flight is bounded. Callers that time out ask again, and a server that
//! recovers works through everything that was sent, including calls that have no waiter any more.
//! Without a bound, thousands of guards that renew their locks would keep it busy with obsolete
//! calls until the last of them is lost. Calls beyond the bound wait in the queue, and leave it
//! unsent when their callers go away.
//!
//! **Invariant:** while calls wait, either a task that takes them is scheduled, or calls are in
//! flight and one of these schedules a task when it ends. Both sides check under the lock of the
//! queue: a task leaves calls behind only if it sees, or sends, too many calls in flight, and each
//! of those looks for remaining calls when it ends later.

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
    runtime::{Handle, RuntimeFlavor},
    task::yield_now,
    time::{Instant, sleep},
};

use super::{
    call::Call,
    connection::Connection,
    link::{Link, POLL_INTERVAL},
    send::{batches, distribute, evaluate},
};
use syncguard_core::backend::Effect;

use crate::error::Failure;

/// The maximum number of calls in flight. It is far more than a server needs to be kept busy.
const MAX_IN_FLIGHT: usize = 1_024;

/// The number of calls in flight at which calls that wait for the bound are sent: in batches,
/// instead of one for each answer.
const REFILL_BELOW: usize = MAX_IN_FLIGHT / 2;

/// What the tasks of a client share.
pub(super) struct Core {
    pub(super) connection: Connection,
    pub(super) runtime: Handle,
    /// Whether the client is for a cluster, where each call may be for another slot.
    one_by_one: bool,
    queue: Mutex<Queue>,
    /// The number of script calls in flight.
    in_flight: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    calls: Vec<Call>,
    /// Whether a task is about to take the calls.
    scheduled: bool,
}

/// The task that takes the calls. If it is dropped before it has run, because its runtime has
/// ended, it answers them: nothing was sent.
struct Flush {
    core: Arc<Core>,
    taken: bool,
}

/// Counts calls as in flight, until it is dropped.
struct InFlight<'a> {
    core: &'a Arc<Core>,
    calls: usize,
}

impl Core {
    pub(super) fn new(connection: Connection, runtime: Handle) -> Self {
        Self {
            one_by_one: connection.settings.is_cluster(),
            connection,
            runtime,
            queue: Mutex::default(),
            in_flight: AtomicUsize::new(0),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // No code panics while the mutex is held.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether nothing is in flight or about to be.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0 && !self.queue().scheduled
    }

    /// Sends calls as one command, distributes their answers, and queues again those that must be
    /// resent.
    pub(super) async fn send(self: Arc<Self>, link: Arc<Link>, calls: Vec<Call>) {
        if calls.is_empty() {
            return;
        }
        let in_flight = InFlight::new(&self, calls.len());
        let answer = evaluate(&link, &calls).await;
        drop(in_flight);
        for call in distribute(calls, answer) {
            self.submit(call);
        }
    }

    pub(super) fn submit(self: &Arc<Self>, call: Call) {
        let mut queue = self.queue();
        queue.calls.push(call);
        // If other calls remain in the queue, it waits with them.
        if queue.calls.len() == 1 {
            self.schedule(queue);
        }
    }

    /// Records that this many calls have ended.
    fn ended(self: &Arc<Self>, calls: usize) {
        let before = self.in_flight.fetch_sub(calls, Ordering::Relaxed);
        if before - calls < REFILL_BELOW {
            let queue = self.queue();
            if !queue.calls.is_empty() {
                self.schedule(queue);
            }
        }
    }

    /// Starts a task that takes the calls, unless one is scheduled.
    fn schedule(self: &Arc<Self>, mut queue: MutexGuard<'_, Queue>) {
        if std::mem::replace(&mut queue.scheduled, true) {
            return;
        }
        drop(queue);
        let flush = Flush { core: self.clone(), taken: false };
        // A runtime that has ended drops the task immediately.
        self.runtime.spawn(flush.run());
    }

    /// Takes the calls that may be sent, the urgent ones first.
    fn take(&self) -> Vec<Call> {
        let now = Instant::now();
        let mut queue = self.queue();
        queue.scheduled = false;
        let mut calls = std::mem::take(&mut queue.calls);
        calls.retain(|call| !call.answer.is_closed());
        let expired: Vec<_> = calls.extract_if(.., |call| call.deadline <= now).collect();
        if calls.len() > 1 {
            calls.sort_by_key(|call| call.script.rank);
        }
        let room = MAX_IN_FLIGHT.saturating_sub(self.in_flight.load(Ordering::Relaxed));
        queue.calls = calls.split_off(room.min(calls.len()));
        drop(queue);
        for call in expired {
            call.complete(Err(Failure::Unsent(self.connection.settings.command_timeout)));
        }
        calls
    }

    /// Fails the calls that have waited too long, and returns whether any call is left. If none is
    /// left, the next call schedules a new task.
    fn expire(&self) -> bool {
        let now = Instant::now();
        let mut queue = self.queue();
        let expired: Vec<_> = queue
            .calls
            .extract_if(.., |call| call.answer.is_closed() || call.deadline <= now)
            .collect();
        queue.scheduled = !queue.calls.is_empty();
        let any_left = queue.scheduled;
        drop(queue);
        for call in expired {
            call.complete(Err(Failure::Unconnected(self.connection.settings.command_timeout)));
        }
        any_left
    }
}

impl<'a> InFlight<'a> {
    fn new(core: &'a Arc<Core>, calls: usize) -> Self {
        core.in_flight.fetch_add(calls, Ordering::Relaxed);
        Self { core, calls }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.core.ended(self.calls);
    }
}

impl Flush {
    async fn run(mut self) {
        // A worker of a multi-threaded runtime runs a task that was just spawned before the others that
        // are ready, and that may be about to submit a call. The other kind of runtime runs them in
        // turn.
        if Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
            yield_now().await;
        }
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
            // Handed to the driver here, in order; the tasks run in any order.
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

    /// Waits for a connection on behalf of all waiting calls. Returns immediately if there is one.
    async fn link(&self) -> Option<Arc<Link>> {
        loop {
            match self.core.connection.live_link() {
                Some(link) if link.is_connected() => return Some(link),
                Some(_) => {}
                None => self.renew().await,
            }
            if !self.core.expire() {
                return None;
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Opens a new link, unless all callers that wait for it give up.
    async fn renew(&self) {
        let mut renewal = pin!(self.core.connection.link());
        loop {
            tokio::select! {
                biased;
                renewed = &mut renewal => {
                    if let Err(error) = renewed {
                        let calls = std::mem::take(&mut self.core.queue().calls);
                        calls.into_iter().for_each(|call| call.complete(Err(error.failure())));
                    }
                    return;
                }
                () = sleep(POLL_INTERVAL) => if !self.core.expire() { return },
            }
        }
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        if !self.taken {
            let queue = std::mem::take(&mut *self.core.queue());
            queue
                .calls
                .into_iter()
                .for_each(|call| call.complete(Err(Failure::Ended(Effect::NotApplied))));
        }
    }
}
