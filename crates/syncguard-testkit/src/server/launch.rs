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

/// How long a server may take to answer. Laying out data and a busy machine are part of it.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// How long one question may take.
const QUESTION_LIMIT: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(3);

/// All that a server is started by, each time anew.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) account: Option<Account>,
    pub(super) lifetime: Lifetime,
}

/// How a start went.
#[derive(Debug)]
pub(super) enum Launched {
    Answering(Process),
    /// Somebody else listens on the port.
    PortTaken,
}

impl Launch {
    /// Starts the server and waits until it answers.
    pub(super) async fn run<P: Program>(&self, place: &Place) -> Result<Launched, ServerError> {
        let log = open(&place.log()).map_err(ServerError::cannot("write the log of a server"))?;
        let (log, printed_before) = log;
        let cannot = || ServerError::cannot(format!("start {}", self.program.display()));
        let mut command = server_as(&self.program, self.account.as_ref(), self.lifetime)?;
        command
            .args(&self.arguments)
            .current_dir(place.directory())
            // MariaDB clears the directory of temporary files of what others have there.
            .env("TMPDIR", place.directory())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(cannot())?)
            .stderr(log);
        let mut process = Process::spawn(command).map_err(cannot())?;
        let started = Instant::now();
        while started.elapsed() < ANSWER_LIMIT {
            if let Some(status) = process.ended().map_err(cannot())? {
                let log = place.printed_after(printed_before);
                return ended::<P>(status, log);
            }
            if let Ok(Ok(true)) = timeout(QUESTION_LIMIT, P::answers(place, process.id())).await {
                return Ok(Launched::Answering(process));
            }
            sleep(POLL).await;
        }
        Err(ServerError::Silent {
            program: P::SERVER.name(),
            limit: ANSWER_LIMIT,
            log: place.printed_after(printed_before),
        })
    }
}

// A port that was taken between its choice and its use is nobody's failure.
fn ended<P: Program>(
    status: std::process::ExitStatus,
    log: String,
) -> Result<Launched, ServerError> {
    if log.contains("Address already in use") {
        return Ok(Launched::PortTaken);
    }
    let program = P::SERVER.name();
    Err(ServerError::Ended { program, status, log })
}

fn open(log: &std::path::Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(log)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}
