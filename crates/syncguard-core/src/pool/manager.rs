//! The interface between a pool and a driver, and the limits and priorities of a pool.

use std::{future::Future, time::Duration};

/// The operations that a [`Pool`](super::Pool) needs from a driver.
pub trait Manager: Send + Sync + 'static {
    /// A connection on which one operation at a time runs.
    type Connection: Send + 'static;

    /// Why a connection could not be opened.
    type Error: Send + Sync + 'static;

    /// Identifies the server's side of a connection to another connection.
    type Session: Clone + Send + Sync + 'static;

    /// Opens a connection. The pool bounds it by [`Limits::open`].
    fn open(&self) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;

    /// Checks, in one round trip, whether the server still answers on a connection.
    fn ping(
        &self,
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Returns whether a retry may succeed with nothing changed: the server is starting or full, or
    /// the network failed. Waiters then keep waiting. Wrong credentials are not transient.
    fn is_transient(&self, error: &Self::Error) -> bool;

    /// Returns the identity of the server's side of the connection, or `None` if it cannot be
    /// identified, for example behind a pooler. The default is `None`.
    fn session(&self, connection: &Self::Connection) -> Option<Self::Session> {
        let _ = connection;
        None
    }

    /// Ends sessions at the server, from one other connection, and returns for each whether it is
    /// gone.
    ///
    /// A session that is not found is gone. The default reports all of them as gone.
    fn end(
        &self,
        sessions: &[Self::Session],
    ) -> impl Future<Output = Result<Vec<bool>, Self::Error>> + Send {
        let gone = vec![true; sessions.len()];
        async move { Ok(gone) }
    }
}

/// The purpose of a lease. Lower values are served first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// To extend a lock that is held. It waits for as long as its caller does.
    Extend,
    /// To release a lock or to abandon an id.
    Release,
    /// To acquire a lock, and for everything that can be deferred: lookups, lists, checks.
    Acquire,
}

/// Limits of a [`Pool`](super::Pool).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The maximum number of connections, counting those that are being opened or ended. A number
    /// below [`MIN_SIZE`] is raised to it.
    pub size: usize,
    /// The limit on waiting for a lease, except for an extend.
    pub wait: Duration,
    /// The limit on one attempt to open a connection, and on one to end sessions.
    pub open: Duration,
}

/// The smallest pool size that can reserve one connection for extends and releases.
pub const MIN_SIZE: usize = 2;
