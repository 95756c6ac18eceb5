//! The connections of a backend.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::{
    ConnectOptions,
    mysql::{MySqlConnectOptions, MySqlConnection},
};
use tokio::{
    runtime::{Handle, Id},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout_at},
};

use crate::{error::Failure, opening::Settings};

/// How long to wait before connecting again to a server that is starting or full.
const PAUSE: Duration = Duration::from_millis(20);

/// How long an unused connection is kept, and how long any. The first spares the server, the second
/// lets clients find their way after it has moved.
const IDLE: Duration = Duration::from_secs(10 * 60);
const LIFE: Duration = Duration::from_secs(30 * 60);

/// A stack of connections that nobody else uses.
///
/// The driver's own pool sends a message over each connection that comes back and waits for the
/// answer, so that each operation costs two round trips. It does so because callers may leave a
/// connection in any state, such as inside a transaction. Statements of this crate begin none and run
/// to their end or lose their connection, so that what comes back is as it was.
pub(crate) struct Pool {
    options: MySqlConnectOptions,
    settings: Settings,
    connect_timeout: Duration,
    turns: Arc<Semaphore>,
    /// The one that was used last is on top, so that those that are too many grow old.
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    own: Own,
    since: Instant,
}

struct Own {
    connection: MySqlConnection,
    opened: Instant,
    /// A connection ends with the runtime that it was opened on.
    runtime: Id,
}

/// A connection that is in use. It is closed unless it is given back.
pub(crate) struct Leased {
    own: Own,
    pool: Arc<Pool>,
    turn: OwnedSemaphorePermit,
}

impl Pool {
    pub(crate) fn new(
        options: MySqlConnectOptions,
        settings: Settings,
        size: u32,
        connect_timeout: Duration,
    ) -> Self {
        let size = usize::try_from(size).unwrap_or(Semaphore::MAX_PERMITS);
        let turns = Arc::new(Semaphore::new(size));
        Self { options, settings, connect_timeout, turns, idle: Mutex::default() }
    }

    /// Opens the first connection, without any patience for a server that is not there.
    pub(crate) async fn open_first(&self) -> Result<(), Failure> {
        let own = self.open_once(Instant::now() + self.connect_timeout).await?;
        self.take_back(own);
        Ok(())
    }

    /// Gives a connection. If it fails, nothing was sent.
    pub(crate) async fn lease(self: &Arc<Self>) -> Result<Leased, Failure> {
        let deadline = Instant::now() + self.connect_timeout;
        let Ok(Ok(turn)) = timeout_at(deadline, self.turns.clone().acquire_owned()).await else {
            return Err(Failure::Unconnected(self.connect_timeout));
        };
        let own = match self.newest() {
            Some(own) => own,
            None => self.open(deadline).await?,
        };
        Ok(Leased { own, pool: self.clone(), turn })
    }

    /// Drops what is not in use.
    pub(crate) fn drop_idle(&self) {
        self.idle().clear();
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
        let opening = async {
            let mut connection = self.options.connect().await.map_err(Failure::Connecting)?;
            self.settings.pin(&mut connection).await?;
            Ok::<_, Failure>(connection)
        };
        let connection = match timeout_at(deadline, opening).await {
            Ok(opened) => opened?,
            Err(_) => return Err(Failure::Unconnected(self.connect_timeout)),
        };
        Ok(Own { connection, opened: Instant::now(), runtime: Handle::current().id() })
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
    pub(crate) fn connection(&mut self) -> &mut MySqlConnection {
        &mut self.own.connection
    }

    /// Gives back a connection that is as it was.
    pub(crate) fn give_back(self) {
        self.pool.take_back(self.own);
        // Whoever takes the turn over finds the connection.
        drop(self.turn);
    }
}
