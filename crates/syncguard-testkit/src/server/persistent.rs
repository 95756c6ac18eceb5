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
    Mariadb, Postgres, Program, Redis, ServerError, Shared, account::Lifetime, double,
    place::free_ports, process::Process, procfs::Stat,
};
use crate::find::Store;

const END_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// A server that goes on when its starter has ended, and is found again through a record in its
/// directory. Needs Linux.
#[derive(Debug)]
pub struct Lasting {
    directory: PathBuf,
    process: Stat,
    end: Signal,
    url: String,
}

impl Lasting {
    /// Starts a server on the data in `directory`, which is made where it is not there, on this
    /// port or, where that is taken, on a free one. One that is running already is given as it is.
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
            Store::Firestore => Self::start_double(directory, port).await,
        }
    }

    /// Looks for the server that was started in `directory` and is still running.
    ///
    /// # Errors
    ///
    /// Where the record cannot be read.
    pub fn find(store: Store, directory: &Path) -> Result<Option<Self>, ServerError> {
        let text = match fs::read_to_string(record(directory)) {
            Ok(text) => text,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ServerError::cannot("read the record of a server")(source)),
        };
        // A process of the same number that was started at another time is another one.
        let running = parse(&text).and_then(|(pid, started, url)| {
            let process =
                Stat::of(pid).filter(|stat| stat.started == started && stat.is_alive())?;
            Some(Self {
                directory: directory.to_owned(),
                process,
                end: end(store),
                url: url.to_owned(),
            })
        });
        Ok(running)
    }

    /// The address as clients write it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The number of its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid
    }

    /// Ends it in good order and waits for that. Its data stay.
    ///
    /// # Errors
    ///
    /// Where it cannot be signalled, or has not ended in half a minute.
    pub async fn stop(self) -> Result<(), ServerError> {
        let signalled = self.process.signal(self.end);
        signalled.map_err(ServerError::cannot("signal a server"))?;
        let asked = Instant::now();
        while self.process.is_alive() {
            if asked.elapsed() > END_LIMIT {
                let line = format!("process {}", self.process.pid);
                let limit = END_LIMIT;
                return Err(ServerError::Hung { line, limit });
            }
            sleep(POLL).await;
        }
        let removed = fs::remove_file(record(&self.directory));
        removed.map_err(ServerError::cannot("remove the record of a server"))
    }

    async fn start_program<P: Program>(directory: &Path, port: u16) -> Result<Self, ServerError> {
        let builder = Shared::<P>::builder().ports(once(port).chain(free_ports().take(5)));
        let (process, place) = builder.start_lasting(directory).await?;
        Self::leave(process, directory, P::STORE, P::STORE.url(place.address()))
    }

    /// The double keeps its documents in memory: they end with it.
    async fn start_double(directory: &Path, port: u16) -> Result<Self, ServerError> {
        fs::create_dir_all(directory).map_err(ServerError::cannot("make a directory"))?;
        let at = |port| {
            double::start((Ipv4Addr::LOCALHOST, port).into(), Lifetime::Unbounded, directory)
        };
        let (process, address) = match at(port).await {
            // Somebody else may have the port.
            Err(ServerError::Ended { .. }) => at(0).await?,
            started => started?,
        };
        Self::leave(process, directory, Store::Firestore, Store::Firestore.url(address))
    }

    /// Records a server and lets it go on. A failure still kills it, so that none runs that nobody
    /// finds again.
    fn leave(
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
        process.leave();
        Ok(Self { directory: directory.to_owned(), process: stat, end: end(store), url })
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

const fn end(store: Store) -> Signal {
    match store {
        Store::Redis => Redis::END,
        Store::Postgres => Postgres::END,
        Store::Mariadb => Mariadb::END,
        Store::Firestore => Signal::INT,
    }
}
