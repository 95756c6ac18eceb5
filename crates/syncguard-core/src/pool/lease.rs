use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    runtime::Handle,
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    error::LeaseError,
    manager::{Limits, Manager, Priority},
    state::{Ending, Handover, MAX_ENDING, State},
};

/// What the leases of a pool and its tasks share.
pub(super) struct Inner<M: Manager> {
    pub(super) manager: M,
    pub(super) limits: Limits,
    pub(super) runtime: Handle,
    pub(super) tasks: Tasks<M>,
    state: Mutex<State<M, Lease<M>>>,
}

/// How the tasks of a pool are started. They work with the pool, so they stand above it.
pub(super) struct Tasks<M: Manager> {
    /// Opens one connection, which the plan has counted.
    pub(super) open: fn(Arc<Inner<M>>),
    /// Ends the sessions that are to be ended.
    pub(super) end: fn(Arc<Inner<M>>),
    /// Closes the connections that are idle for too long.
    pub(super) close: fn(&Arc<Inner<M>>) -> JoinHandle<()>,
}

impl<M: Manager> Inner<M> {
    pub(super) fn new(manager: M, limits: Limits, runtime: Handle, tasks: Tasks<M>) -> Self {
        let state = Mutex::new(State::new(limits.size));
        Self { manager, limits, runtime, tasks, state }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State<M, Lease<M>>> {
        // Nothing panics while it is locked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn drop_stale(&self) {
        // Dropped after the state is unlocked: closing a socket is a system call.
        let stale = self.state().take_stale();
        drop(stale);
    }

    /// Assigns connections to waiters, and starts opening those that are missing.
    ///
    /// Wakers run after the state is unlocked. A waiter that was dropped meanwhile returns its
    /// connection, which goes to the next one in another round.
    pub(super) fn settle(self: &Arc<Self>) {
        loop {
            let plan = self.state().plan(Instant::now());
            drop(plan.expired);
            for _ in 0..plan.openers {
                (self.tasks.open)(self.clone());
            }
            let mut returned = false;
            for (waiter, handover) in plan.handovers {
                let lease = Lease::of(self.clone(), handover);
                let unwanted = waiter.send(Ok(lease)).err().and_then(Result::ok);
                if let Some(handover) = unwanted.and_then(Lease::into_handover) {
                    self.take_back(handover);
                    returned = true;
                }
            }
            if !returned {
                return;
            }
        }
    }

    /// Returns a connection to the pool, used or not. Its state must be unchanged.
    fn take_back(self: &Arc<Self>, handover: Handover<M::Connection>) {
        let mut state = self.state();
        state.take_back(handover);
        self.close_idle(&mut state);
    }

    /// Adds a connection that was just opened.
    pub(super) fn add(self: &Arc<Self>, state: &mut State<M, Lease<M>>, connection: M::Connection) {
        state.add_idle(connection);
        self.close_idle(state);
    }

    /// Makes sure that idle connections are closed in time. It is called after one became idle.
    fn close_idle(self: &Arc<Self>, state: &mut State<M, Lease<M>>) {
        if state.starts_closing() {
            state.closer = Some(AbortOnDropHandle::new((self.tasks.close)(self)));
        }
    }

    fn free(self: &Arc<Self>, priority: Priority) {
        self.state().free(priority);
        self.settle();
    }

    /// Queues a session to be ended at the server.
    fn end(self: &Arc<Self>, session: M::Session, priority: Priority) {
        let until = Instant::now() + MAX_ENDING;
        let starts = {
            let mut state = self.state();
            state.ending.push(Ending { session, priority, until });
            !std::mem::replace(&mut state.is_ending, true)
        };
        if starts {
            (self.tasks.end)(self.clone());
        }
    }
}

/// A connection in use.
///
/// Dropping it closes the connection and frees its slot, because the state of the connection is
/// unknown. A connection whose state is unchanged is [returned](Self::give_back).
#[must_use = "a lease that is dropped closes its connection"]
pub struct Lease<M: Manager> {
    /// Taken when the lease ends.
    handover: Option<Handover<M::Connection>>,
    /// Whether it is unused: it was handed to a waiter that was dropped.
    untouched: bool,
    pool: Arc<Inner<M>>,
}

impl<M: Manager> Lease<M> {
    pub(super) fn of(pool: Arc<Inner<M>>, handover: Handover<M::Connection>) -> Self {
        Self { handover: Some(handover), untouched: true, pool }
    }

    /// Returns the connection.
    #[expect(clippy::expect_used, reason = "what takes the connection consumes the lease")]
    pub fn connection(&mut self) -> &mut M::Connection {
        self.untouched = false;
        let handover = self.handover.as_mut().expect("it is taken by what consumes the lease");
        &mut handover.connection
    }

    pub(super) fn is_stale(&self) -> bool {
        self.handover.as_ref().is_some_and(|handover| handover.stale)
    }

    /// Returns the connection to the pool. Its state must be unchanged.
    pub fn give_back(mut self) {
        if let Some(handover) = self.handover.take() {
            let handover = Handover { stale: false, ..handover };
            let held = handover.since.elapsed();
            let waiting = {
                let mut state = self.pool.state();
                state.measure(held);
                state.take_back(handover);
                self.pool.close_idle(&mut state);
                state.anyone_waits()
            };
            if waiting {
                self.pool.settle();
            }
        }
    }

    /// Takes the connection out of the pool. Its slot is free.
    #[expect(clippy::expect_used, reason = "what takes the connection consumes the lease")]
    pub fn take(mut self) -> M::Connection {
        let handover = self.handover.take().expect("it is taken by what consumes the lease");
        self.pool.state().measure(handover.since.elapsed());
        self.pool.free(handover.priority);
        handover.connection
    }

    /// Abandons a connection whose answer did not arrive in time.
    ///
    /// The server may still be working on the operation, or waiting, and nothing that the client
    /// does to the connection ends that. Therefore the [session](Manager::session) is ended from
    /// another connection, and the slot is free when the session is gone, or after
    /// [`MAX_ENDING`](super::MAX_ENDING). Without this, a client that gives up and connects again
    /// fills the server with sessions. The effect of the operation remains unknown.
    pub fn abandon(mut self) {
        if let Some(handover) = self.handover.take() {
            let Handover { connection, priority, since, .. } = handover;
            let session = self.pool.manager.session(&connection);
            drop(connection);
            self.pool.state().measure(since.elapsed());
            match session {
                Some(session) => self.pool.end(session, priority),
                None => self.pool.free(priority),
            }
        }
    }

    /// Ends the lease of a waiter that was dropped, without freeing its slot.
    pub(super) fn into_handover(mut self) -> Option<Handover<M::Connection>> {
        self.handover.take()
    }
}

impl<M: Manager> Drop for Lease<M> {
    fn drop(&mut self) {
        let Some(handover) = self.handover.take() else { return };
        if self.untouched {
            self.pool.take_back(handover);
            self.pool.settle();
        } else {
            drop(handover.connection);
            self.pool.free(handover.priority);
        }
    }
}

/// Waits for a connection. With a ticket, at the position that the ticket had before.
pub(super) async fn wait<M: Manager>(
    pool: &Arc<Inner<M>>,
    priority: Priority,
    ticket: &mut Option<u64>,
    deadline: Option<Instant>,
) -> Result<Lease<M>, LeaseError<M::Error>> {
    let limit = pool.limits.wait;
    let (sender, receiver) = oneshot::channel();
    let ticket = {
        let mut state = pool.state();
        if ticket.is_none() {
            if let Some(handover) = state.lease_at_once(priority, Instant::now()) {
                drop(state);
                return Ok(Lease::of(pool.clone(), handover));
            }
            if priority == Priority::Acquire && state.expected_wait() > limit {
                return Err(LeaseError::Busy(limit));
            }
        }
        let ticket = *ticket.get_or_insert_with(|| state.ticket());
        state.enter(priority, ticket, sender);
        ticket
    };
    // The receiver may be dropped first: a connection that it was handed is returned, and one that
    // it cannot be handed any more goes to the next waiter.
    let _leave_on_drop = LeaveOnDrop { pool, priority, ticket };
    pool.settle();
    let Some(deadline) = deadline else {
        return receiver.await.unwrap_or(Err(LeaseError::TimedOut { limit, cause: None }));
    };
    match timeout_at(deadline, receiver).await {
        Ok(Ok(handed)) => handed,
        _ => Err(LeaseError::TimedOut { limit, cause: pool.state().cause.clone() }),
    }
}

/// Removes a waiter from its queue on drop.
struct LeaveOnDrop<'a, M: Manager> {
    pool: &'a Inner<M>,
    priority: Priority,
    ticket: u64,
}

impl<M: Manager> Drop for LeaveOnDrop<'_, M> {
    fn drop(&mut self) {
        let waiter = self.pool.state().leave(self.priority, self.ticket);
        // No one is notified of its end, but it does not happen under the lock either.
        drop(waiter);
    }
}

impl<M: Manager> fmt::Debug for Lease<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").finish_non_exhaustive()
    }
}
