//! A connection pool for backends whose connections do one operation at a time.
//!
//! It knows no driver: a backend implements [`Manager`] for its own, and leases connections from a
//! [`Pool`]. What the pool promises, whatever the driver:
//!
//! - **Keeping beats taking.** Waiters are served by [`Priority`]: extends first, then releases, then
//!   everything else. At least one connection is never leased to [`Priority::Acquire`], so that no
//!   number of acquires keeps an extend waiting for longer than the operations that are in flight.
//!   Among waiters of one priority, the first to come is the first to be served.
//! - **The most urgent first.** A backend that can send several requests as one queues them in a
//!   [`Batcher`] in front of the pool, by the times at which they are needed. What a connection carries
//!   is decided when it is leased, so there the order of arrival does not matter.
//! - **Acquires fail early.** One that would wait longer than [`Limits::wait`], by the time that
//!   leases have taken lately, is refused at once with [`LeaseError::Busy`]. Nothing was sent.
//! - **Opening outlives waiters.** A task of the pool opens connections, a few at a time, with a time
//!   limit of its own and a pause after each failure that all waiters share. What it opens belongs to
//!   the pool, whether or not the waiter that asked for it is still there.
//! - **Idle connections are tested.** One that was idle for a few seconds, or at the time when another
//!   one broke, is pinged before it is leased.
//! - **A place is free when the server says so.** A connection whose answer never came is ended at the
//!   server before its place goes to another one; see [`Lease::abandon`].
//! - **Panics are contained.** What a driver does while it opens or ends connections can be run by
//!   [`contained`], so that its panic is an error.
//! - **One runtime.** Connections, and the tasks that use them, live on the runtime that the pool was
//!   given. [`call()`] runs an operation there, whichever runtime its caller is on.
//!
//! # Examples
//!
//! A driver of strings over nothing:
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
mod ending;
mod lease;
mod opening;
mod pruning;
mod state;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};

pub use self::{
    batcher::{BatchLimits, Batcher, SendBatch},
    call::{Interrupted, Reply, call, contained},
    lease::{Lease, LeaseError},
    pruning::Pruning,
};
use self::{opening::Opener, state::State};

/// A connection that was idle for this long is pinged before it is leased.
const PING_AFTER: Duration = Duration::from_secs(5);

/// How long a ping may take. One round trip between continents is well within it.
const PING_TIMEOUT: Duration = Duration::from_millis(500);

/// How long an unused connection is kept. Shorter than the idle limits of NATs and load balancers,
/// which forget connections after a minute at the earliest.
const MAX_IDLE: Duration = Duration::from_secs(45);

/// How long any connection is kept, so that clients follow a server that has moved.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);

/// How many connections are opened at a time.
const MAX_OPENING: usize = 3;

/// How long the place of a connection whose answer never came is kept while the server does not say
/// that its side has ended.
///
/// Longer than PostgreSQL keeps a standby that does not answer (`wal_sender_timeout`, one minute),
/// which is what a commit hangs on.
pub const MAX_ENDING: Duration = Duration::from_secs(90);

/// What a [`Pool`] asks of a driver.
pub trait Manager: Send + Sync + 'static {
    /// A connection on which one operation at a time runs.
    type Connection: Send + 'static;

    /// Why a connection could not be opened.
    type Error: Send + Sync + 'static;

    /// What names the server's side of a connection to another one.
    type Session: Clone + Send + Sync + 'static;

    /// Opens a connection. The pool bounds it by [`Limits::open`].
    fn open(&self) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;

    /// Finds out, in one round trip, whether the server still answers on a connection.
    fn ping(
        &self,
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Returns whether opening may succeed a moment later with nothing changed: the server is starting
    /// or full, or the network failed. Waiters then keep waiting. Wrong credentials are not transient.
    fn is_transient(&self, error: &Self::Error) -> bool;

    /// Returns what names the server's side of the connection, or `None` where it cannot be named:
    /// behind a pooler, say. The default is `None`.
    fn session(&self, connection: &Self::Connection) -> Option<Self::Session> {
        let _ = connection;
        None
    }

    /// Ends sessions at the server, from one other connection, and returns for each whether it is gone.
    ///
    /// A session that is not found is gone. The default says so of all of them.
    fn end(
        &self,
        sessions: &[Self::Session],
    ) -> impl Future<Output = Result<Vec<bool>, Self::Error>> + Send {
        let gone = vec![true; sessions.len()];
        async move { Ok(gone) }
    }
}

/// What a connection is wanted for. Lower values are served first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// To keep a lock that is held. It waits for as long as its caller does.
    Extend,
    /// To give a lock back or to abandon an id.
    Release,
    /// To take a lock, and for all that can be asked for later: lookups, lists, checks.
    Acquire,
}

/// The bounds of a [`Pool`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many connections there are at most, counting those that are being opened or ended. Fewer
    /// than [`MIN_SIZE`] count as that many.
    pub size: usize,
    /// How long a lease may be waited for, except by an extend.
    pub wait: Duration,
    /// How long one attempt to open a connection may take, and one to end sessions.
    pub open: Duration,
}

/// The fewest connections with which one can be kept from acquires.
pub const MIN_SIZE: usize = 2;

/// A stack of connections. Cheap to clone; clones share the connections.
pub struct Pool<M: Manager>(Arc<Inner<M>>);

struct Inner<M: Manager> {
    manager: M,
    limits: Limits,
    runtime: Handle,
    state: Mutex<State<M>>,
}

impl<M: Manager> Pool<M> {
    /// Makes a pool without connections. What it opens, and the tasks that do so, live on `runtime`.
    pub fn new(manager: M, limits: Limits, runtime: Handle) -> Self {
        let limits = Limits { size: limits.size.max(MIN_SIZE), ..limits };
        let state = Mutex::new(State::new(limits.size));
        Self(Arc::new(Inner { manager, limits, runtime, state }))
    }

    /// Opens a connection and keeps it, so that the first operation need not. It is tried once, so that
    /// an address without a server is reported at once.
    ///
    /// # Errors
    ///
    /// - [`LeaseError::Failed`] where opening fails, for a transient reason or not.
    /// - [`LeaseError::TimedOut`] where it takes longer than [`Limits::wait`].
    pub async fn open_first(&self) -> Result<(), LeaseError<M::Error>> {
        let limit = self.0.limits.wait;
        match timeout(limit, self.0.manager.open()).await {
            Ok(Ok(connection)) => {
                self.0.state().keep(connection);
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
    /// - [`LeaseError::Busy`] where an acquire would wait for longer than [`Limits::wait`].
    /// - [`LeaseError::TimedOut`] where an acquire or a release has waited for that long.
    /// - [`LeaseError::Failed`] where there is no connection, and one cannot be opened for a reason that
    ///   does not pass by itself.
    ///
    /// # Cancel safety
    ///
    /// A dropped future leaves the queue. A connection that it was just handed goes to the next waiter.
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
            // Before its place is free, so that the next waiter is not given one of them.
            self.0.drop_stale();
        }
    }

    /// Lets connections that are idle now be pinged before they are leased, after another one broke.
    pub fn suspect_idle(&self) {
        self.0.state().suspect_idle();
    }
}

impl<M: Manager> Inner<M> {
    fn state(&self) -> MutexGuard<'_, State<M>> {
        // Nothing panics while it is locked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drop_stale(&self) {
        // Dropped after the state is unlocked: closing a socket is a system call.
        let stale = self.state().take_stale();
        drop(stale);
    }

    /// Hands connections to waiters, and starts opening those that are missing.
    ///
    /// Wakers run after the state is unlocked. A waiter that has gone by then returns its connection,
    /// which goes to the next one in another round.
    fn settle(self: &Arc<Self>) {
        loop {
            let plan = self.state().plan(Instant::now());
            drop(plan.expired);
            for _ in 0..plan.openers {
                let opener = Opener::new(self.clone());
                self.runtime.spawn(opener.run());
            }
            let mut returned = false;
            for (waiter, handover) in plan.handovers {
                let lease = Lease::of(self.clone(), handover);
                let unwanted = waiter.send(Ok(lease)).err().and_then(Result::ok);
                if let Some(handover) = unwanted.and_then(Lease::into_handover) {
                    self.state().take_back(handover);
                    returned = true;
                }
            }
            if !returned {
                return;
            }
        }
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
