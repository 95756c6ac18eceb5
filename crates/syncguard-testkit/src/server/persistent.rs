use std::{
    fs, io,
    iter::once,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tokio::time::sleep;

use super::{
    Mariadb, Postgres, Program, Redis, ServerError, Shared, account::Lifetime, emulator,
    place::free_ports, process::Process, procfs::Stat,
};
use crate::find::Store;

const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A server that continues when the process that started it ends, and is found again through a
/// record in its directory. Requires Linux.
#[derive(Debug)]
pub struct PersistentServer {
    directory: PathBuf,
    process: Stat,
    stop_signal: Signal,
    url: String,
}

impl PersistentServer {
    /// Starts a server on the data in `directory`, which is created if it does not exist, on this
    /// port or, if that is taken, on a free one. Returns a server that is running already.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`](super::Builder::start).
    pub async fn start(store: Store, directory: &Path, port: u16) -> Result<Self, ServerError> {
        if let Some(running) = Self::find(store, directory)? {
            return Ok(running);
        }
        match store {
            Store::Redis => Self::start_program::<Redis>(directory, port).await,
            Store::Postgres => Self::start_program::<Postgres>(directory, port).await,
            Store::Mariadb => Self::start_program::<Mariadb>(directory, port).await,
            Store::Firestore => Self::start_emulator(directory, port).await,
        }
    }

    /// Finds the server that was started in `directory` and is still running.
    ///
    /// # Errors
    ///
    /// If the record cannot be read.
    pub fn find(store: Store, directory: &Path) -> Result<Option<Self>, ServerError> {
        let text = match fs::read_to_string(record(directory)) {
            Ok(text) => text,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ServerError::cannot("read the record of a server")(source)),
        };
        // A process with the same pid but another start time is a different process.
        let running = parse(&text).and_then(|(pid, started, url)| {
            let process =
                Stat::of(pid).filter(|stat| stat.started == started && stat.is_alive())?;
            Some(Self {
                directory: directory.to_owned(),
                process,
                stop_signal: stop_signal(store),
                url: url.to_owned(),
            })
        });
        Ok(running)
    }

    /// Returns the URL of the server.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid
    }

    /// Shuts the server down gracefully and waits until it has exited. Its data is kept.
    ///
    /// # Errors
    ///
    /// If it cannot be signalled, or has not exited after 30 seconds.
    pub async fn stop(self) -> Result<(), ServerError> {
        let sent = self.process.signal(self.stop_signal);
        sent.map_err(ServerError::cannot("signal a server"))?;
        let signalled = Instant::now();
        while self.process.is_alive() {
            if signalled.elapsed() > SHUTDOWN_TIMEOUT {
                let line = format!("process {}", self.process.pid);
                let limit = SHUTDOWN_TIMEOUT;
                return Err(ServerError::TimedOut { line, limit });
            }
            sleep(POLL_INTERVAL).await;
        }
        let removed = fs::remove_file(record(&self.directory));
        removed.map_err(ServerError::cannot("remove the record of a server"))
    }

    async fn start_program<P: Program>(directory: &Path, port: u16) -> Result<Self, ServerError> {
        let builder = Shared::<P>::builder().ports(once(port).chain(free_ports().take(5)));
        let (process, place) = builder.start_persistent(directory).await?;
        Self::detach(process, directory, P::STORE, P::STORE.url(place.address()))
    }

    /// Starts the emulator, which keeps its documents in memory: they are lost when it exits.
    async fn start_emulator(directory: &Path, port: u16) -> Result<Self, ServerError> {
        fs::create_dir_all(directory).map_err(ServerError::cannot("make a directory"))?;
        let at = |port| {
            emulator::start((Ipv4Addr::LOCALHOST, port).into(), Lifetime::Unbounded, directory)
        };
        let (process, address) = match at(port).await {
            // Another process may listen on the port.
            Err(ServerError::Exited { .. }) => at(0).await?,
            started => started?,
        };
        Self::detach(process, directory, Store::Firestore, Store::Firestore.url(address))
    }

    /// Records a server and detaches it. A failure kills it, so that no server runs that cannot be
    /// found again.
    fn detach(
        process: Process,
        directory: &Path,
        store: Store,
        url: String,
    ) -> Result<Self, ServerError> {
        let none = || io::Error::other("this system does not tell processes apart");
        let cannot = || ServerError::cannot("record a server");
        let stat = Stat::of(process.id()).ok_or_else(none).map_err(cannot())?;
        let text = format!("{} {} {url}\n", stat.pid, stat.started);
        fs::write(record(directory), text).map_err(cannot())?;
        process.detach();
        let stop_signal = stop_signal(store);
        Ok(Self { directory: directory.to_owned(), process: stat, stop_signal, url })
    }
}

fn record(directory: &Path) -> PathBuf {
    directory.join("running")
}

fn parse(text: &str) -> Option<(u32, u64, &str)> {
    let mut words = text.split_whitespace();
    let pid = words.next()?.parse().ok()?;
    let started = words.next()?.parse().ok()?;
    Some((pid, started, words.next()?))
}

const fn stop_signal(store: Store) -> Signal {
    match store {
        Store::Redis => Redis::STOP_SIGNAL,
        Store::Postgres => Postgres::STOP_SIGNAL,
        Store::Mariadb => Mariadb::STOP_SIGNAL,
        Store::Firestore => Signal::INT,
    }
}
