//! The driver's end of a connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use sqlx::{
    Acquire, ConnectOptions,
    postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions},
};
use tokio::runtime::Handle;

/// The limit on opening a connection that can listen, if a plain one will do.
const LISTENING_OPEN_TIMEOUT: Duration = Duration::from_millis(250);

/// The driver's end of a connection.
pub(crate) enum Wire {
    /// It can run statements.
    Plain(PgConnection),
    /// It can run statements, and listen.
    Listening(Ear),
}

impl Wire {
    /// Opens a connection that can listen, or a plain one if that does not succeed soon.
    ///
    /// The driver opens the former only through a pool of its own, which retries while the server is
    /// full or cannot be reached, and does not return the reason. A plain connection fails with it.
    /// It is tried once: to a server that is far away, each attempt would be given up in vain.
    pub(crate) async fn open(options: &PgConnectOptions, ears: Ears) -> Result<Self, sqlx::Error> {
        match Ear::open(options, LISTENING_OPEN_TIMEOUT, ears.clone()).await {
            Err(sqlx::Error::PoolTimedOut) => {
                ears.0.fetch_add(1, Relaxed);
                options.connect().await.map(Self::Plain)
            }
            opened => opened.map(Self::Listening),
        }
    }

    /// Returns the connection to run a statement on.
    pub(crate) async fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        match self {
            Self::Plain(connection) => Ok(connection),
            Self::Listening(ear) => ear.driver().acquire().await,
        }
    }

    pub(crate) fn can_listen(&self) -> bool {
        matches!(self, Self::Listening(_))
    }
}

/// A connection that can listen.
pub(crate) struct Ear {
    /// Taken when it is dropped.
    driver: Option<PgListener>,
    /// The driver closes the connection in a task.
    runtime: Handle,
    ears: Ears,
}

/// Counts the connections that can listen, and the attempt to open one that was given up.
#[derive(Clone, Default)]
pub(crate) struct Ears(Arc<AtomicUsize>);

impl Ears {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.load(Relaxed) == 0
    }
}

impl Ear {
    /// Opens a connection on the current runtime.
    pub(crate) async fn open(
        options: &PgConnectOptions,
        limit: Duration,
        ears: Ears,
    ) -> Result<Self, sqlx::Error> {
        // The driver's listener takes its connection from a pool.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(limit)
            .max_lifetime(None)
            .idle_timeout(None)
            .test_before_acquire(false)
            .connect_lazy_with(options.clone());
        let mut driver = PgListener::connect_with(&pool).await?;
        driver.eager_reconnect(false);
        driver.ignore_pool_close_event(true);
        ears.0.fetch_add(1, Relaxed);
        Ok(Self { driver: Some(driver), runtime: Handle::current(), ears })
    }

    #[expect(clippy::expect_used, reason = "only `drop` takes it")]
    pub(crate) fn driver(&mut self) -> &mut PgListener {
        self.driver.as_mut().expect("it is taken on drop")
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.ears.0.fetch_sub(1, Relaxed);
        // The backend may be dropped outside of its runtime.
        let _entered = self.runtime.enter();
        self.driver = None;
    }
}
