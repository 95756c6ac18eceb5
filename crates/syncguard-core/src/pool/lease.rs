use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{Inner, Manager, Priority, state::Handover};

/// Why there is no lease. In each case nothing was sent.
#[derive(Debug)]
pub enum LeaseError<E> {
    /// An acquire would have waited for longer than this.
    Busy(Duration),
    /// There was no connection in time.
    TimedOut {
        /// How long was waited.
        limit: Duration,
        /// Why the last attempt to open one failed, if it did.
        cause: Option<Arc<E>>,
    },
    /// A connection could not be opened, and trying again would not help.
    Failed(Arc<E>),
}

impl<E> LeaseError<E> {
    /// Returns why the last attempt to open a connection failed, if that is why there is no lease.
    pub fn cause(&self) -> Option<&Arc<E>> {
        match self {
            Self::Busy(_) => None,
            Self::TimedOut { cause, .. } => cause.as_ref(),
            Self::Failed(cause) => Some(cause),
        }
    }
}

impl<E: fmt::Display> fmt::Display for LeaseError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(limit) => {
                write!(f, "all connections are in use, and one would be free after {limit:?} only")
            }
            Self::TimedOut { limit, cause: None } => write!(f, "no connection within {limit:?}"),
            Self::TimedOut { limit, cause: Some(cause) } => {
                write!(f, "no connection within {limit:?}: {cause}")
            }
            Self::Failed(cause) => write!(f, "{cause}"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for LeaseError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause().map(|cause| &**cause as _)
    }
}

/// A connection in use.
///
/// Dropped, it is closed and its place is free, because nothing is known of its state. One that is as
/// it was is [given back](Self::give_back).
#[must_use = "a lease that is dropped closes its connection"]
pub struct Lease<M: Manager> {
    /// Taken when the lease ends.
    handover: Option<Handover<M::Connection>>,
    /// Whether it is unused: it was handed to a waiter that has gone.
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

    /// Returns a connection that is as it was to the pool.
    pub fn give_back(mut self) {
        if let Some(handover) = self.handover.take() {
            let handover = Handover { stale: false, ..handover };
            let held = handover.since.elapsed();
            let waiting = {
                let mut state = self.pool.state();
                state.measure(held);
                state.take_back(handover);
                state.anyone_waits()
            };
            if waiting {
                self.pool.settle();
            }
        }
    }

    /// Gives a connection up whose answer did not come in time.
    ///
    /// The server may still be working on it, or wait, and nothing that the client does to the
    /// connection ends that. So the [session](Manager::session) is ended from another connection, and
    /// the place is free when it is gone, or after [`MAX_ENDING`](super::MAX_ENDING). Without this, a
    /// client that gives up and connects again fills the server with sessions. What the operation has
    /// done stays unknown.
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

    /// Ends the lease of a waiter that has gone, without freeing its place.
    pub(super) fn into_handover(mut self) -> Option<Handover<M::Connection>> {
        self.handover.take()
    }
}

impl<M: Manager> Drop for Lease<M> {
    fn drop(&mut self) {
        let Some(handover) = self.handover.take() else { return };
        if self.untouched {
            self.pool.state().take_back(handover);
            self.pool.settle();
        } else {
            drop(handover.connection);
            self.pool.free(handover.priority);
        }
    }
}

impl<M: Manager> Inner<M> {
    pub(super) fn free(self: &Arc<Self>, priority: Priority) {
        self.state().free(priority);
        self.settle();
    }
}

/// Waits for a connection. With a ticket, at the place where its owner stood before.
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
    // Dropped before the receiver, which returns a connection that it was handed meanwhile.
    let _place = Place { pool, priority, ticket };
    pool.settle();
    let Some(deadline) = deadline else {
        return receiver.await.unwrap_or(Err(LeaseError::TimedOut { limit, cause: None }));
    };
    match timeout_at(deadline, receiver).await {
        Ok(Ok(handed)) => handed,
        _ => Err(LeaseError::TimedOut { limit, cause: pool.state().cause.clone() }),
    }
}

/// A place in a queue, which is left on drop.
struct Place<'a, M: Manager> {
    pool: &'a Inner<M>,
    priority: Priority,
    ticket: u64,
}

impl<M: Manager> Drop for Place<'_, M> {
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
