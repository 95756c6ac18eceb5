//! A connection pool for backends whose connections do one operation at a time.
//!
//! It depends on no driver: a backend implements [`Manager`] for its own driver, and leases
//! connections from a [`Pool`]. The pool guarantees, whatever the driver:
//!
//! - **Held locks take precedence.** Waiters are served by [`Priority`]: extends first, then
//!   releases, then everything else. At least one connection is never leased to
//!   [`Priority::Acquire`], so that no number of acquires delays an extend for longer than the
//!   operations that are in flight. Waiters of one priority are served in the order of their
//!   arrival.
//! - **The most urgent request first.** A backend that can send several requests as one queues them
//!   in a [`Batcher`] in front of the pool, by the times at which they are needed. The requests
//!   that a connection carries are chosen when it is leased, so there the order of arrival does not
//!   matter.
//! - **Acquires fail early.** An acquire that would wait longer than [`Limits::wait`], according to
//!   the recent duration of leases, fails immediately with [`LeaseError::Busy`]. Nothing was sent.
//! - **Opening outlives waiters.** A task of the pool opens connections, a few at a time, with its
//!   own time limit, and with a pause after each failure that all waiters share. A connection that
//!   it opens belongs to the pool, whether or not the waiter that requested it is still there.
//! - **Idle connections are tested.** A connection that was idle for a few seconds, or at the time
//!   when another one broke, is pinged before it is leased.
//! - **Unused connections are closed.** A timer closes a connection that no one has used for 45
//!   seconds, or that is 30 minutes old when it is returned.
//! - **A slot is free when the server confirms it.** A connection whose answer never arrived is
//!   ended at the server before its slot is reused; see [`Lease::abandon`].
//! - **Panics are contained.** A driver can open and end connections in [`contained`], so that a
//!   panic becomes an error.
//! - **One runtime.** Connections, and the tasks that use them, live on the runtime that the pool
//!   was created with. [`call()`] runs an operation there, whichever runtime its caller is on.
//!
//! # Examples
//!
//! A driver whose connections are strings:
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//! use syncguard_core::pool::{Limits, Manager, Pool, Priority};
//!
//! struct Strings;
//!
//! impl Manager for Strings {
//!     type Connection = String;
//!     type Error = Infallible;
//!     type Session = ();
//!
//!     async fn open(&self) -> Result<String, Infallible> {
//!         Ok("connected".to_owned())
//!     }
//!
//!     async fn ping(&self, _: &mut String) -> Result<(), Infallible> {
//!         Ok(())
//!     }
//!
//!     fn is_transient(&self, error: &Infallible) -> bool {
//!         match *error {}
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let limits = Limits { size: 10, wait: Duration::from_secs(4), open: Duration::from_secs(5) };
//! let pool = Pool::new(Strings, limits, tokio::runtime::Handle::current());
//! let mut lease = pool.lease(Priority::Extend).await.unwrap();
//! lease.connection().push_str(", and used");
//! lease.give_back();
//! # }
//! ```

mod batcher;
mod call;
mod closing;
mod ending;
mod error;
mod lease;
mod manager;
mod opening;
mod pruning;
mod state;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};

use self::lease::{Inner, Tasks};
pub use self::{
    batcher::{BatchLimits, Batcher, SendBatch},
    call::{Interrupted, Reply, call, contained},
    error::LeaseError,
    lease::Lease,
    manager::{Limits, MIN_SIZE, Manager, Priority},
    pruning::Pruning,
    state::MAX_ENDING,
};

/// How long a ping may take. One round trip between continents is well within it.
const PING_TIMEOUT: Duration = Duration::from_millis(500);

/// A pool of connections. It is cheap to clone, and the clones share the connections.
pub struct Pool<M: Manager>(Arc<Inner<M>>);

impl<M: Manager> Pool<M> {
    /// Creates a pool without connections. The connections, and the tasks that open them, live on
    /// `runtime`.
    pub fn new(manager: M, limits: Limits, runtime: Handle) -> Self {
        let limits = Limits { size: limits.size.max(MIN_SIZE), ..limits };
        let tasks = Tasks { open: opening::start, end: ending::start, close: closing::start };
        Self(Arc::new(Inner::new(manager, limits, runtime, tasks)))
    }

    /// Opens a connection before the first operation needs one. There is one attempt, so that an
    /// address without a server is reported immediately.
    ///
    /// # Errors
    ///
    /// - [`LeaseError::Failed`] if opening fails, for a transient reason or not.
    /// - [`LeaseError::TimedOut`] if it takes longer than [`Limits::wait`].
    pub async fn open_first(&self) -> Result<(), LeaseError<M::Error>> {
        let limit = self.0.limits.wait;
        match timeout(limit, self.0.manager.open()).await {
            Ok(Ok(connection)) => {
                self.0.add(&mut self.0.state(), connection);
                Ok(())
            }
            Ok(Err(error)) => Err(LeaseError::Failed(Arc::new(error))),
            Err(_) => Err(LeaseError::TimedOut { limit, cause: None }),
        }
    }

    /// Leases a connection.
    ///
    /// Must be called on the runtime of the pool, as [`call()`] does.
    ///
    /// # Errors
    ///
    /// In each case nothing was sent.
    ///
    /// - [`LeaseError::Busy`] if an acquire would wait for longer than [`Limits::wait`].
    /// - [`LeaseError::TimedOut`] if an acquire or a release has waited for that long.
    /// - [`LeaseError::Failed`] if no connection is available, and none can be opened, for a reason
    ///   that is not transient.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue. A connection that was just assigned to it goes to the
    /// next waiter.
    pub async fn lease(&self, priority: Priority) -> Result<Lease<M>, LeaseError<M::Error>> {
        let deadline = match priority {
            Priority::Extend => None,
            Priority::Release | Priority::Acquire => Some(Instant::now() + self.0.limits.wait),
        };
        let mut ticket = None;
        loop {
            let mut lease = lease::wait(&self.0, priority, &mut ticket, deadline).await?;
            if !lease.is_stale() {
                return Ok(lease);
            }
            let ping = timeout(PING_TIMEOUT, self.0.manager.ping(lease.connection()));
            if let Ok(Ok(())) = ping.await {
                return Ok(lease);
            }
            tracing::debug!(
                "an idle connection did not answer; it and those of its age are closed"
            );
            // Before its slot is free, so that the next waiter does not receive one of them.
            self.0.drop_stale();
        }
    }

    /// Returns whether the pool has no connection, leased or idle.
    pub fn is_empty(&self) -> bool {
        self.0.state().has_no_connection()
    }

    /// Takes an idle connection out of the pool, which no longer counts it.
    pub fn take_idle(&self, accepts: impl FnMut(&M::Connection) -> bool) -> Option<M::Connection> {
        self.0.state().take_idle(accepts)
    }

    /// Adds a connection that the pool did not open, or that was [taken](Lease::take) from it.
    pub fn add(&self, connection: M::Connection) {
        self.0.add(&mut self.0.state(), connection);
        self.0.settle();
    }

    /// Leases a connection that the caller keeps for another purpose, if the pool
    /// [has none](Self::is_empty). While it is leased, the pool counts it. The caller
    /// [takes](Lease::take) it back.
    pub fn lease_lent(
        &self,
        priority: Priority,
        lend: impl FnOnce() -> Option<M::Connection>,
    ) -> Option<Lease<M>> {
        let handover = self.0.state().lease_lent(priority, lend)?;
        Some(Lease::of(self.0.clone(), handover))
    }

    /// Marks the currently idle connections, so that they are pinged before they are leased. To be
    /// called after another connection broke.
    pub fn suspect_idle(&self) {
        self.0.state().suspect_idle();
    }
}

impl<M: Manager> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Manager> fmt::Debug for Pool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}
