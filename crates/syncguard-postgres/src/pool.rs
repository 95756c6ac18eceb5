//! Connections: a pool of our own, or that of the caller.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::{Connection, PgPool, Postgres, pool::PoolConnection, postgres::PgConnection};
use syncguard_core::pool::{Lease, LeaseError, Limits, Manager, Pool, Priority};
use tokio::{
    runtime::Handle,
    sync::{Notify, Semaphore},
    time::timeout,
};

use crate::{
    error::Failure,
    server::{OwnConnection, Server},
    station::Station,
    wire::Ears,
};

/// The limit on an orderly close of a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long one statement waits for the connection that listens before another one is opened.
const LOAN_WAIT: Duration = Duration::from_millis(50);

/// Where connections come from.
pub(crate) enum Source {
    Own(Arc<OwnPool>),
    /// The caller's pool serves requests in the order of arrival. Therefore requests first wait for
    /// a turn, which is assigned by priority.
    Callers {
        pool: PgPool,
        turns: Pool<Turns>,
        limit: Duration,
    },
}

/// Connections of our own, and the one of them that listens.
///
/// A client that waits and has one connection keeps to it: the listener takes it out of the pool, and
/// lends it to statements. More connections are opened when statements overlap, and while there is
/// one, the connection that listens does nothing else.
pub(crate) struct OwnPool {
    pool: Pool<Server>,
    /// Counts those that can listen. `None` if releases are listened for elsewhere, if at all.
    ears: Option<Ears>,
    station: Mutex<Option<Arc<Station>>>,
    /// The turn of the one statement that waits for the connection that listens. If a second one has
    /// to wait, another connection is opened at once.
    next: Semaphore,
    /// Notifies the listener that a connection was returned to the pool.
    returned: Notify,
}

/// A connection in use. Dropping it closes the connection.
pub(crate) enum Leased {
    Own {
        lease: Lease<Server>,
        pool: Arc<OwnPool>,
    },
    /// The connection that listens.
    Lent {
        lease: Lease<Server>,
        loan: Loan,
    },
    Callers {
        connection: PoolConnection<Postgres>,
        turn: Lease<Turns>,
    },
}

impl Source {
    /// Leases a connection. If it fails, nothing was sent.
    pub(crate) async fn lease(&self, priority: Priority) -> Result<Leased, Failure> {
        match self {
            Self::Own(pool) => pool.lease(priority).await,
            Self::Callers { pool, turns, limit } => {
                let turn = turns.lease(priority).await.map_err(|error| match error {
                    LeaseError::Busy(limit) => LeaseError::Busy(limit),
                    LeaseError::TimedOut { limit, .. } => {
                        LeaseError::TimedOut { limit, cause: None }
                    }
                    LeaseError::Failed(never) => match *never {},
                })?;
                // The driver's future is large. Unboxed, it would be part of each statement, and be
                // copied with it into a task, also where connections are our own.
                let acquiring = Box::pin(pool.acquire());
                let connection = match timeout(*limit, acquiring).await {
                    Ok(connection) => connection.map_err(Failure::Connecting)?,
                    Err(_) => return Err(Failure::Unconnected(*limit)),
                };
                Ok(Leased::Callers { connection, turn })
            }
        }
    }

    /// Returns the connections of which one can listen.
    pub(crate) fn shared(&self) -> Option<Arc<OwnPool>> {
        match self {
            Self::Own(own) => own.ears.as_ref().map(|_| own.clone()),
            Self::Callers { .. } => None,
        }
    }

    /// Makes idle connections be tested before they are used, after another one broke.
    pub(crate) fn suspect_idle(&self) {
        if let Self::Own(own) = self {
            own.pool.suspect_idle();
        }
    }
}

impl OwnPool {
    pub(crate) fn new(server: Server, limits: Limits, runtime: Handle) -> Self {
        let ears = server.ears.clone();
        let pool = Pool::new(server, limits, runtime);
        let (next, returned) = (Semaphore::new(1), Notify::new());
        Self { pool, ears, station: Mutex::default(), next, returned }
    }

    /// Opens the first connection.
    pub(crate) async fn open_first(&self) -> Result<(), Failure> {
        Ok(self.pool.open_first().await?)
    }

    pub(crate) fn ears(&self) -> Option<&Ears> {
        self.ears.as_ref()
    }

    pub(crate) fn add(&self, connection: OwnConnection) {
        self.pool.add(connection);
    }

    async fn lease(self: &Arc<Self>, priority: Priority) -> Result<Leased, Failure> {
        // Given up once it has waited for long enough.
        let mut turn = self.next.try_acquire().ok();
        loop {
            let Some(station) = self.station().clone() else { break };
            let returned = station.returned();
            if let Some(lease) = self.pool.lease_lent(priority, || station.borrow()) {
                return Ok(Leased::Lent { lease, loan: Loan(station.clone()) });
            }
            if !self.pool.is_empty() {
                break;
            }
            if turn.is_some() {
                if timeout(LOAN_WAIT, returned).await.is_err() {
                    turn = None;
                }
                continue;
            }
            tokio::select! {
                biased;
                lease = self.pool.lease(priority) => return Ok(self.leased(lease?)),
                () = returned => {}
            }
        }
        drop(turn);
        Ok(self.leased(self.pool.lease(priority).await?))
    }

    fn leased(self: &Arc<Self>, lease: Lease<Server>) -> Leased {
        Leased::Own { lease, pool: self.clone() }
    }

    fn station(&self) -> MutexGuard<'_, Option<Arc<Station>>> {
        self.station.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the connection that can listen out of the pool, if it is idle soon.
    pub(crate) async fn take_listening(&self) -> Option<OwnConnection> {
        let taking = async {
            loop {
                let returned = self.returned.notified();
                let taken = self.pool.take_idle(|connection| connection.wire.can_listen());
                if taken.is_some() || self.ears.as_ref().is_none_or(Ears::is_empty) {
                    return taken;
                }
                returned.await;
            }
        };
        timeout(LOAN_WAIT, taking).await.ok().flatten()
    }

    /// Lends the connection that listens to statements from now on.
    pub(crate) fn set_station(&self, station: Arc<Station>) {
        *self.station() = Some(station);
    }

    /// Lends the connection of a listener that has ended to no one, unless there is another listener.
    pub(crate) fn remove_station(&self, ended: &Arc<Station>) {
        let mut station = self.station();
        if station.as_ref().is_some_and(|current| Arc::ptr_eq(current, ended)) {
            *station = None;
        }
    }
}

/// The loan of the connection that listens to a statement. If it is dropped, the connection is gone,
/// and the listener ends.
pub(crate) struct Loan(Arc<Station>);

impl Loan {
    fn give_back(self, connection: OwnConnection) {
        self.0.give_back(connection);
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.0.lose();
    }
}

impl Leased {
    pub(crate) async fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        match self {
            Self::Own { lease, .. } | Self::Lent { lease, .. } => {
                lease.connection().wire.connection().await
            }
            Self::Callers { connection, .. } => Ok(connection),
        }
    }

    /// Returns a connection whose state is unchanged.
    pub(crate) fn give_back(self) {
        match self {
            Self::Own { lease, pool } => {
                lease.give_back();
                pool.returned.notify_waiters();
            }
            Self::Lent { lease, loan } => loan.give_back(lease.take()),
            Self::Callers { connection, turn } => {
                drop(connection);
                turn.give_back();
            }
        }
    }

    /// Closes a working connection, and with it the transaction that it is in.
    pub(crate) async fn close(self) {
        if let Self::Callers { connection, turn } = self {
            // The operating system closes it if this times out.
            let _ = timeout(CLOSE_TIMEOUT, connection.detach().close()).await;
            turn.give_back();
        }
    }

    /// Drops a connection that is broken, or whose state is unknown. The caller's pool would wait
    /// for its answer.
    pub(crate) fn discard(self) {
        match self {
            Self::Own { .. } | Self::Lent { .. } => {}
            Self::Callers { connection, turn } => {
                drop(connection.detach());
                turn.give_back();
            }
        }
    }

    /// Returns whether the server's side can be ended from another connection.
    pub(crate) fn has_session(&mut self) -> bool {
        match self {
            Self::Own { lease, .. } | Self::Lent { lease, .. } => {
                lease.connection().session.is_some()
            }
            Self::Callers { .. } => false,
        }
    }

    /// Abandons a connection whose answer did not arrive.
    pub(crate) fn abandon(self) {
        match self {
            Self::Own { lease, .. } | Self::Lent { lease, .. } => lease.abandon(),
            Self::Callers { .. } => self.discard(),
        }
    }
}

/// Turns at the caller's pool.
pub(crate) struct Turns;

impl Manager for Turns {
    type Connection = ();
    type Error = Infallible;
    type Session = ();

    async fn open(&self) -> Result<(), Infallible> {
        Ok(())
    }

    async fn ping(&self, (): &mut ()) -> Result<(), Infallible> {
        Ok(())
    }

    fn is_transient(&self, never: &Infallible) -> bool {
        match *never {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
    use syncguard_core::pool::{Limits, MIN_SIZE, Pool, Priority};
    use tokio::runtime::Handle;

    use super::{Source, Turns};

    /// Each statement copies this future when it moves into its task.
    #[tokio::test]
    async fn the_future_of_a_lease_does_not_contain_that_of_the_callers_pool() {
        let pool = PgPoolOptions::new().connect_lazy_with(PgConnectOptions::new());
        let of_pool = size_of_val(&pool.acquire());
        let limit = Duration::from_secs(1);
        let limits = Limits { size: MIN_SIZE, wait: limit, open: limit };
        let turns = Pool::new(Turns, limits, Handle::current());
        let source = Source::Callers { pool, turns, limit };
        let of_lease = size_of_val(&source.lease(Priority::Acquire));
        assert!(of_lease < of_pool, "{of_lease} bytes, and the driver's alone {of_pool}");
    }
}
