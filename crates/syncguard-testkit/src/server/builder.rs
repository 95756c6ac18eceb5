use std::{ffi::OsString, fmt::Debug, marker::PhantomData, path::Path};

use super::{
    account::{Account, Lifetime},
    directory,
    error::ServerError,
    handle::Server,
    launch::{Launch, Launched},
    place::{Place, free_ports},
    process::Process,
    program::Program,
};

// The chance that a port is taken is one in several thousand.
const MAX_PORT_ATTEMPTS: usize = 10;

/// Configures how a server is started.
///
/// Settings that are not set have the defaults of the server, so that a test shows what it depends
/// on.
#[derive(Debug)]
#[must_use = "a builder starts nothing by itself"]
pub struct Builder<P> {
    settings: Vec<(String, String)>,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    ports: Vec<u16>,
    program: PhantomData<fn() -> P>,
}

impl<P: Program> Builder<P> {
    pub(super) fn new() -> Self {
        Self {
            settings: Vec::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            ports: Vec::new(),
            program: PhantomData,
        }
    }

    /// Sets an option of the server's configuration, with the value as written in its file.
    ///
    /// A later setting of a name overrides an earlier one.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Adds an argument to the command line.
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets environment variables of the server.
    pub fn envs<N, V>(mut self, variables: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        let variables = variables.into_iter();
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        self.environment.extend(variables);
        self
    }

    /// Tries these ports in turn, instead of free ones.
    pub fn ports(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.ports.extend(ports);
        self
    }

    /// Starts the server in a temporary directory, and waits until it is ready.
    ///
    /// The server ends with the handle; on Linux also with this process, however that ends.
    ///
    /// # Errors
    ///
    /// [`ServerError`], with the end of the server's log.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves neither a process nor a directory.
    pub async fn start(self) -> Result<Server<P>, ServerError> {
        let account = Account::of(P::SERVER, P::USERS)?;
        let home = directory::temporary(P::STORE.name(), account.as_ref())?;
        let started = self.launch(home.path(), account, Lifetime::BoundToProcess);
        let (process, launch, place) = started.await?;
        Ok(Server::new(process, launch, place, home))
    }

    /// Starts the server in `directory`. It continues when this process ends.
    pub(super) async fn start_persistent(
        self,
        directory: &Path,
    ) -> Result<(Process, Place), ServerError> {
        let account = Account::of(P::SERVER, P::USERS)?;
        directory::persistent(directory, account.as_ref())?;
        let started = self.launch(directory, account, Lifetime::Unbounded);
        let (process, _, place) = started.await?;
        Ok((process, place))
    }

    async fn launch(
        self,
        directory: &Path,
        account: Option<Account>,
        lifetime: Lifetime,
    ) -> Result<(Process, Launch, Place), ServerError> {
        let mut launch = Launch {
            program: P::SERVER.find()?,
            arguments: Vec::new(),
            environment: self.environment,
            account,
            lifetime,
        };
        let mut tried = Vec::new();
        for port in ports(self.ports) {
            let place = Place::new(directory.to_owned(), port);
            create_data_dir::<P>(&place, launch.account.as_ref()).await?;
            let written = P::arguments(&place, &self.settings);
            launch.arguments = written.map_err(ServerError::cannot("configure a server"))?;
            launch.arguments.extend(self.arguments.iter().cloned());
            if let Launched::Ready(process) = launch.run::<P>(&place).await? {
                return Ok((process, launch, place));
            }
            tried.push(port);
        }
        let program = P::SERVER.name();
        Err(ServerError::PortsTaken { program, tried })
    }
}

impl<P: Program> Server<P> {
    /// Configures how a server is started.
    pub fn builder() -> Builder<P> {
        Builder::new()
    }

    /// Starts a server with its default settings.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`].
    pub async fn start() -> Result<Self, ServerError> {
        Self::builder().start().await
    }
}

impl<P> Clone for Builder<P> {
    fn clone(&self) -> Self {
        Self {
            settings: self.settings.clone(),
            arguments: self.arguments.clone(),
            environment: self.environment.clone(),
            ports: self.ports.clone(),
            program: PhantomData,
        }
    }
}

fn ports(wanted: Vec<u16>) -> Box<dyn Iterator<Item = u16> + Send> {
    if wanted.is_empty() {
        Box::new(free_ports().take(MAX_PORT_ATTEMPTS))
    } else {
        Box::new(wanted.into_iter())
    }
}

/// Creates the data directory if it does not exist.
async fn create_data_dir<P: Program>(
    place: &Place,
    account: Option<&Account>,
) -> Result<(), ServerError> {
    if place.data_dir().exists() {
        return Ok(());
    }
    match P::layout().await? {
        Some(layout) => layout.copy_to(place).await,
        None => directory::data(&place.data_dir(), account),
    }
}
