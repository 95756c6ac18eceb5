use std::{
    marker::PhantomData,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::time::sleep;

use super::{
    call::call,
    error::ServerError,
    launch::{Launch, Launched},
    place::Place,
    process::Process,
    program::Program,
};

/// How long a server may take to shut down gracefully.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a restart waits while another process uses the port of the server.
const PORT_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(3);

/// A server for one test, which may kill and stop it. Dropping it kills the server and removes its
/// directory.
#[derive(Debug)]
#[must_use = "a server ends with its handle"]
pub struct Server<P: Program> {
    // Must be dropped before the directory that it writes to.
    process: Mutex<Process>,
    launch: Launch,
    place: Place,
    _home: TempDir,
    program: PhantomData<fn() -> P>,
}

impl<P: Program> Server<P> {
    pub(super) fn new(process: Process, launch: Launch, place: Place, home: TempDir) -> Self {
        Self { process: Mutex::new(process), launch, place, _home: home, program: PhantomData }
    }

    /// Kills the server (SIGKILL), with the processes that it started. Data that it had not written
    /// is lost; data that it had handed to the kernel is not.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotRunning`] if it has exited already.
    pub fn kill(&self) -> Result<(), ServerError> {
        self.process().kill()
    }

    /// Stops the server (SIGSTOP): connections stay open, and it answers nothing. Returns when it
    /// has stopped.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotRunning`] if it has exited already.
    pub fn pause(&self) -> Result<(), ServerError> {
        self.process().pause()
    }

    /// Resumes the server after [`pause`](Self::pause) (SIGCONT).
    ///
    /// # Errors
    ///
    /// [`ServerError::NotRunning`] if it has exited already.
    pub fn resume(&self) -> Result<(), ServerError> {
        self.process().resume()
    }

    /// Shuts the server down gracefully, even if clients are connected, and waits until it has
    /// exited.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotRunning`] if it has exited already, [`ServerError::TimedOut`] if it did
    /// not exit in time and was killed.
    pub async fn terminate(&self) -> Result<(), ServerError> {
        self.process().terminate(P::STOP_SIGNAL)?;
        let signalled = Instant::now();
        while self.pid().is_some() {
            if signalled.elapsed() > SHUTDOWN_TIMEOUT {
                self.kill()?;
                let line = P::SERVER.name().to_owned();
                let limit = SHUTDOWN_TIMEOUT;
                return Err(ServerError::TimedOut { line, limit });
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Starts the server again with the same data and on the same port, and waits until it is
    /// ready. A server that is still running is shut down gracefully first.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`](super::Builder::start); [`ServerError::PortsTaken`] if
    /// another process took the port and keeps it.
    pub async fn restart(&self) -> Result<(), ServerError> {
        if self.pid().is_some() {
            self.terminate().await?;
        }
        let started = Instant::now();
        while started.elapsed() < PORT_TIMEOUT {
            if let Launched::Ready(process) = self.launch.run::<P>(&self.place).await? {
                *self.process() = process;
                return Ok(());
            }
            sleep(POLL_INTERVAL).await;
        }
        Err(ServerError::PortsTaken { program: P::SERVER.name(), tried: vec![self.port()] })
    }

    /// Runs the command line client of the server with these arguments, and returns its standard
    /// output, trimmed.
    ///
    /// # Errors
    ///
    /// If the client fails, or does not exit within a minute.
    pub async fn command(&self, arguments: &[&str]) -> Result<String, ServerError> {
        let mut client = Command::new(P::CLIENT.find()?);
        client.args(P::client_arguments(self.address())).args(arguments);
        call(client).await
    }

    /// Returns the URL of the server.
    #[must_use]
    pub fn url(&self) -> String {
        P::STORE.url(self.address())
    }

    /// Returns the URL of the server with another address, such as that of a
    /// [`Proxy`](crate::proxy::Proxy).
    #[must_use]
    pub fn url_through(&self, address: SocketAddr) -> String {
        P::STORE.url(address)
    }

    /// Returns the address on the loopback interface.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.place.address()
    }

    /// Returns the port on the loopback interface.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.place.port()
    }

    /// Returns the data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.place.data_dir()
    }

    /// Returns the end of the log.
    #[must_use]
    pub fn log(&self) -> String {
        self.place.log_after(0)
    }

    /// Returns the pid, if the process is running.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let mut process = self.process();
        matches!(process.try_wait(), Ok(None)).then(|| process.id())
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: Program> Drop for Server<P> {
    fn drop(&mut self) {
        // The process may have exited already. If not, there is no caller to return the error to.
        let _ = self.kill();
        P::clean_up(&self.place);
    }
}
