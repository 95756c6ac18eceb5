//! Connections: a pool of our own, or that of the caller.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgConnection},
};
use tokio::{
    runtime::{Handle, Id},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout_at},
};

use crate::error::Failure;

/// How long to wait before connecting again to a server that is starting or full.
const PAUSE: Duration = Duration::from_millis(20);

/// How long an unused connection is kept, and how long any. The first spares the server, the second
/// lets clients find their way after it has moved.
const IDLE: Duration = Duration::from_secs(10 * 60);
const LIFE: Duration = Duration::from_secs(30 * 60);

/// How long to be polite to a connection that is given up.
const FAREWELL: Duration = Duration::from_secs(1);

/// Where connections come from.
pub(crate) enum Source {
    Own(Arc<Pool>),
    Callers(PgPool),
}

/// A stack of connections that nobody else uses.
///
/// The driver's own pool sends a message over each connection that comes back and waits for the
/// answer, so that each operation costs two round trips. It does so because callers may leave a
/// connection in any state. Statements of this crate run to their end or lose their connection, so
/// that what comes back is as it was.
pub(crate) struct Pool {
    options: PgConnectOptions,
    connect_timeout: Duration,
    turns: Arc<Semaphore>,
    /// The one that was used last is on top, so that those that are too many grow old.
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    own: Own,
    since: Instant,
}

/// A connection of our own.
pub(crate) struct Own {
    connection: PgConnection,
    opened: Instant,
    /// A connection ends with the runtime that it was opened on.
    runtime: Id,
}

/// A connection that is in use.
pub(crate) enum Leased {
    Own { own: Own, pool: Arc<Pool>, turn: OwnedSemaphorePermit },
    Callers(PoolConnection<Postgres>),
}

impl Source {
    /// Gives a connection. If it fails, nothing was sent.
    pub(crate) async fn lease(&self, connect_timeout: Duration) -> Result<Leased, Failure> {
        let deadline = Instant::now() + connect_timeout;
        match self {
            Self::Own(pool) => pool.lease(deadline).await,
            Self::Callers(pool) => match timeout_at(deadline, pool.acquire()).await {
                Ok(connection) => connection.map(Leased::Callers).map_err(Failure::Connecting),
                Err(_) => Err(Failure::Unconnected(connect_timeout)),
            },
        }
    }

    /// Drops what is not in use, after one connection broke: the others probably did as well.
    pub(crate) fn drop_idle(&self) {
        if let Self::Own(pool) = self {
            pool.idle().clear();
        }
    }
}

impl Pool {
    pub(crate) fn new(options: PgConnectOptions, size: u32, connect_timeout: Duration) -> Self {
        let size = usize::try_from(size).unwrap_or(Semaphore::MAX_PERMITS);
        let turns = Arc::new(Semaphore::new(size));
        Self { options, connect_timeout, turns, idle: Mutex::default() }
    }

    /// Opens the first connection, without any patience for a server that is not there.
    pub(crate) async fn open_first(self: &Arc<Self>) -> Result<(), Failure> {
        let deadline = Instant::now() + self.connect_timeout;
        let own = self.open_once(deadline).await?;
        self.take_back(own);
        Ok(())
    }

    async fn lease(self: &Arc<Self>, deadline: Instant) -> Result<Leased, Failure> {
        let Ok(Ok(turn)) = timeout_at(deadline, self.turns.clone().acquire_owned()).await else {
            return Err(Failure::Unconnected(self.connect_timeout));
        };
        let own = match self.newest() {
            Some(own) => own,
            None => self.open(deadline).await?,
        };
        Ok(Leased::Own { own, pool: self.clone(), turn })
    }

    fn newest(&self) -> Option<Own> {
        let here = Handle::current().id();
        let mut idle = self.idle();
        let usable = |idle: &Idle| {
            idle.own.runtime == here
                && idle.since.elapsed() < IDLE
                && idle.own.opened.elapsed() < LIFE
        };
        std::iter::from_fn(|| idle.pop()).find(usable).map(|idle| idle.own)
    }

    /// Opens a connection, also to a server that only just starts.
    async fn open(&self, deadline: Instant) -> Result<Own, Failure> {
        loop {
            match self.open_once(deadline).await {
                Err(failure) if failure.passes() && Instant::now() + PAUSE < deadline => {
                    sleep(PAUSE).await;
                }
                opened => return opened,
            }
        }
    }

    async fn open_once(&self, deadline: Instant) -> Result<Own, Failure> {
        let opened = match timeout_at(deadline, self.options.connect()).await {
            Ok(opened) => opened.map_err(Failure::Connecting)?,
            Err(_) => return Err(Failure::Unconnected(self.connect_timeout)),
        };
        let runtime = Handle::current().id();
        Ok(Own { connection: opened, opened: Instant::now(), runtime })
    }

    fn take_back(&self, own: Own) {
        let now = Instant::now();
        let mut idle = self.idle();
        if now.duration_since(own.opened) < LIFE {
            idle.push(Idle { own, since: now });
        }
        if idle.first().is_some_and(|oldest| now.duration_since(oldest.since) > IDLE) {
            idle.remove(0);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        // Nothing panics while it is locked.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leased {
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        match self {
            Self::Own { own, .. } => &mut own.connection,
            Self::Callers(connection) => connection,
        }
    }

    /// Gives back a connection that is as it was.
    pub(crate) fn give_back(self) {
        match self {
            Self::Own { own, pool, turn } => {
                pool.take_back(own);
                // Whoever takes the turn over finds the connection.
                drop(turn);
            }
            Self::Callers(connection) => drop(connection),
        }
    }

    /// Ends a connection that works, and with it the transaction that it is in.
    pub(crate) async fn close(self) {
        let closing = match self {
            Self::Own { own, .. } => own.connection,
            Self::Callers(connection) => connection.detach(),
        };
        // Closed by the system at the latest.
        let _ = timeout_at(Instant::now() + FAREWELL, closing.close()).await;
    }

    /// Drops a connection that is broken, or of which nobody knows in what state it is. The pool of
    /// the caller would wait for its answer.
    pub(crate) fn discard(self) {
        match self {
            Self::Own { own, .. } => drop(own),
            Self::Callers(connection) => drop(connection.detach()),
        }
    }
}
