use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::time::{sleep, timeout};

use super::{
    account::{Account, Lifetime, server_as},
    error::ServerError,
    place::Place,
    process::Process,
    program::Program,
};

/// How long a server may take to be ready, including the creation of its data and on a busy
/// machine.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long one readiness check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
const POLL_INTERVAL: Duration = Duration::from_millis(3);

/// The parameters of each start of a server.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) account: Option<Account>,
    pub(super) lifetime: Lifetime,
}

/// The outcome of a start.
#[derive(Debug)]
pub(super) enum Launched {
    Ready(Process),
    /// Another process listens on the port.
    PortTaken,
}

impl Launch {
    /// Starts the server and waits until it is ready.
    pub(super) async fn run<P: Program>(&self, place: &Place) -> Result<Launched, ServerError> {
        let log = open(&place.log()).map_err(ServerError::cannot("write the log of a server"))?;
        let (log, log_start) = log;
        let cannot = || ServerError::cannot(format!("start {}", self.program.display()));
        let mut command = server_as(&self.program, self.account.as_ref(), self.lifetime)?;
        command
            .args(&self.arguments)
            .current_dir(place.directory())
            // MariaDB deletes files of other programs from the directory for temporary files.
            .env("TMPDIR", place.directory())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(cannot())?)
            .stderr(log);
        let mut process = Process::spawn(command).map_err(cannot())?;
        let started = Instant::now();
        while started.elapsed() < READY_TIMEOUT {
            if let Some(status) = process.try_wait().map_err(cannot())? {
                let log = place.log_after(log_start);
                return exited::<P>(status, log);
            }
            if let Ok(Ok(true)) = timeout(CHECK_TIMEOUT, P::is_ready(place, process.id())).await {
                return Ok(Launched::Ready(process));
            }
            sleep(POLL_INTERVAL).await;
        }
        Err(ServerError::NotReady {
            program: P::SERVER.name(),
            limit: READY_TIMEOUT,
            log: place.log_after(log_start),
        })
    }
}

// A port that was taken between its choice and its use is not an error.
fn exited<P: Program>(
    status: std::process::ExitStatus,
    log: String,
) -> Result<Launched, ServerError> {
    if log.contains("Address already in use") {
        return Ok(Launched::PortTaken);
    }
    let program = P::SERVER.name();
    Err(ServerError::Exited { program, status, log })
}

fn open(log: &std::path::Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(log)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}
