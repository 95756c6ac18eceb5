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

/// How long a server may take to end in good order.
const END_LIMIT: Duration = Duration::from_secs(30);
/// How long somebody else may sit on the port of a server that is to be started again.
const PORT_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(3);

/// A server of one's own, to be used and broken. Dropped, it is killed and its directory removed.
#[derive(Debug)]
#[must_use = "a server ends with its handle"]
pub struct Server<P: Program> {
    // Dropped before the directory that it writes to.
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

    /// Kills it (SIGKILL), with the processes that it started. What it had not written is lost,
    /// what it had handed to the kernel is not.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotRunning`] where it has ended already.
    pub fn kill(&self) -> Result<(), ServerError> {
        self.process().kill()
    }

    /// Stops it (SIGSTOP): connections stay open, and nothing is answered. Returns when it has
    /// stopped.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotRunning`] where it has ended already.
    pub fn pause(&self) -> Result<(), ServerError> {
        self.process().pause()
    }

    /// Lets it go on after [`pause`](Self::pause) (SIGCONT).
    ///
    /// # Errors
    ///
    /// [`ServerError::NotRunning`] where it has ended already.
    pub fn resume(&self) -> Result<(), ServerError> {
        self.process().resume()
    }

    /// Ends it in good order, whoever is connected, and waits for that.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotRunning`] where it has ended already, [`ServerError::Hung`] where it had
    /// to be killed in the end.
    pub async fn terminate(&self) -> Result<(), ServerError> {
        self.process().ask_to_end(P::END)?;
        let asked = Instant::now();
        while self.pid().is_some() {
            if asked.elapsed() > END_LIMIT {
                self.kill()?;
                let line = P::SERVER.name().to_owned();
                let limit = END_LIMIT;
                return Err(ServerError::Hung { line, limit });
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Starts it again on the same data and the same port, and waits until it answers. Where it is
    /// still running, it ends in good order first.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`](super::Builder::start); [`ServerError::PortsTaken`] where somebody
    /// else took the port and keeps it.
    pub async fn restart(&self) -> Result<(), ServerError> {
        if self.pid().is_some() {
            self.terminate().await?;
        }
        let begun = Instant::now();
        while begun.elapsed() < PORT_LIMIT {
            if let Launched::Answering(process) = self.launch.run::<P>(&self.place).await? {
                *self.process() = process;
                return Ok(());
            }
            sleep(POLL).await;
        }
        Err(ServerError::PortsTaken { program: P::SERVER.name(), tried: vec![self.port()] })
    }

    /// Runs the command line client with these arguments against it, and gives what that printed,
    /// without the white space around it.
    ///
    /// # Errors
    ///
    /// Where the client fails, or gets no answer within a minute.
    pub async fn command(&self, arguments: &[&str]) -> Result<String, ServerError> {
        let mut client = Command::new(P::CLIENT.find()?);
        client.args(P::client_arguments(self.address())).args(arguments);
        call(client).await
    }

    /// The address as clients write it.
    #[must_use]
    pub fn url(&self) -> String {
        P::STORE.url(self.address())
    }

    /// The address as clients write it that go through something else, such as a
    /// [`Proxy`](crate::proxy::Proxy).
    #[must_use]
    pub fn url_through(&self, address: SocketAddr) -> String {
        P::STORE.url(address)
    }

    /// The address on the loopback interface.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.place.address()
    }

    /// The port on the loopback interface.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.place.port()
    }

    /// Where it keeps its data.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.place.data_dir()
    }

    /// The end of what it has printed.
    #[must_use]
    pub fn log(&self) -> String {
        self.place.printed_after(0)
    }

    /// The number of its process, while that runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let mut process = self.process();
        matches!(process.ended(), Ok(None)).then(|| process.id())
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
