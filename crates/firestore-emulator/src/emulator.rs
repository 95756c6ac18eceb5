//! The handle of a double, and its configuration.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use crate::{
    Calls, ClockOffset, Concurrency, Fault, Injection,
    calls::Counter,
    database::{Database, Settings},
    faults::Faults,
    server::Server,
    service::Shared,
    transaction::Limits,
};

/// Runs a double in this process, reached over TCP. It stops when it is dropped.
///
/// It serves every database of every project, without credentials.
///
/// # Examples
///
/// ```
/// use firestore_emulator::{Concurrency, Emulator, Fault};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let emulator = Emulator::builder().concurrency(Concurrency::Optimistic).start().await?;
/// println!("FIRESTORE_EMULATOR_HOST={}", emulator.address());
/// let lost = emulator.inject(Fault::drop_reply().document("payment:42"));
/// assert_eq!(lost.hits(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a double ends with its handle"]
pub struct Emulator {
    shared: Arc<Shared>,
    address: SocketAddr,
    server: Option<Server>,
}

impl Emulator {
    /// Returns a builder for a pessimistic double on a free port of the loopback interface.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Returns the address that it listens on. It is the same after a restart.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Injects a fault.
    pub fn inject(&self, fault: Fault) -> Injection {
        self.shared.faults.inject(fault)
    }

    /// Returns how often each method was called so far.
    #[must_use]
    pub fn calls(&self) -> Calls {
        self.shared.calls.read()
    }

    /// Sets the offset of the server's clock from that of its host.
    ///
    /// Times never go back: a clock that is set back stands still until it has caught up, except
    /// for the microseconds that distinguish commits. For a clock that is behind, prefer to [build
    /// it so](Builder::clock_offset).
    pub fn set_clock_offset(&self, offset: ClockOffset) {
        self.shared.database.set_clock_offset(offset);
    }

    /// Stops as if the server was killed: connections are cut, transactions are gone, and commits
    /// that are waiting are not made. The documents stay.
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
        self.shared.database.end_transactions();
    }

    /// Restarts it on the same address with the same documents, after a [`stop`](Self::stop) if it
    /// is running.
    ///
    /// # Errors
    ///
    /// Returns an error if another process has taken the port meanwhile.
    pub async fn restart(&mut self) -> io::Result<()> {
        self.stop().await;
        let (server, _) = Server::start(self.address, self.shared.clone()).await?;
        self.server = Some(server);
        Ok(())
    }
}

/// Configures a double.
#[derive(Clone, Copy, Debug)]
#[must_use = "a builder starts nothing by itself"]
pub struct Builder {
    address: SocketAddr,
    settings: Settings,
}

impl Builder {
    /// How long earlier versions can be read by default. The service keeps them for an hour; a
    /// double under heavy load would hold all of that in memory.
    pub const DEFAULT_RETENTION: Duration = Duration::from_secs(60);

    /// Listens on this address, instead of on a free port.
    pub fn listen(self, address: SocketAddr) -> Self {
        Self { address, ..self }
    }

    /// Sets the concurrency of read-write transactions that do not choose one themselves.
    pub fn concurrency(mut self, concurrency: Concurrency) -> Self {
        self.settings.concurrency = concurrency;
        self
    }

    /// Sets the initial offset of the server's clock from that of its host.
    pub fn clock_offset(mut self, offset: ClockOffset) -> Self {
        self.settings.clock_offset = offset;
        self
    }

    /// Sets how long a transaction may be idle: 60 s by default, as on the service.
    pub fn idle_limit(mut self, limit: Duration) -> Self {
        self.settings.limits.idle = limit;
        self
    }

    /// Sets how long a transaction may last: 270 s by default, as on the service.
    pub fn transaction_limit(mut self, limit: Duration) -> Self {
        self.settings.limits.total = limit;
        self
    }

    /// Sets how long a request waits for locks before it is aborted: 20 s by default.
    pub fn lock_wait(mut self, limit: Duration) -> Self {
        self.settings.limits.lock_wait = limit;
        self
    }

    /// Sets how long earlier versions can be read.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.settings.retention = retention;
        self
    }

    #[cfg(test)]
    pub(crate) fn settings(self) -> Settings {
        self.settings
    }

    /// Starts it on the runtime of the caller.
    ///
    /// # Errors
    ///
    /// Returns an error if the address cannot be listened on.
    pub async fn start(self) -> io::Result<Emulator> {
        let database = Arc::new(Database::new(self.settings));
        let (faults, calls) = (Faults::default(), Counter::default());
        let shared = Arc::new(Shared { database, faults, calls });
        let (server, address) = Server::start(self.address, shared.clone()).await?;
        Ok(Emulator { shared, address, server: Some(server) })
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            settings: Settings {
                concurrency: Concurrency::Pessimistic,
                limits: Limits::default(),
                retention: Self::DEFAULT_RETENTION,
                clock_offset: ClockOffset::Ahead(Duration::ZERO),
            },
        }
    }
}
