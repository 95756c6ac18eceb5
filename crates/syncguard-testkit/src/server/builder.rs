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

// Each is taken with a chance of one in thousands.
const PORTS_TO_TRY: usize = 10;

/// Says how a server is started.
///
/// Whatever is not set is as the server has it by itself, so that a test shows what it depends on.
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

    /// Sets what the server reads from its configuration, as it would be written there.
    ///
    /// A later setting of a name wins over an earlier one.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Adds an argument to the command line.
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets variables in the server's environment.
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

    /// Tries these ports in turn, instead of some that are free.
    pub fn ports(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.ports.extend(ports);
        self
    }

    /// Starts it in a temporary directory, and waits until it answers.
    ///
    /// The server ends with the handle; on Linux also with this process, however that ends.
    ///
    /// # Errors
    ///
    /// [`ServerError`], with the end of what the server printed.
    ///
    /// # Cancel safety
    ///
    /// A start that is dropped leaves neither a process nor a directory.
    pub async fn start(self) -> Result<Server<P>, ServerError> {
        let account = Account::of(P::SERVER, P::USERS)?;
        let home = directory::temporary(P::STORE.name(), account.as_ref())?;
        let started = self.launch(home.path(), account, Lifetime::OfThisProcess);
        let (process, launch, place) = started.await?;
        Ok(Server::new(process, launch, place, home))
    }

    /// Starts it in `directory`, to go on when this process ends.
    pub(super) async fn start_lasting(
        self,
        directory: &Path,
    ) -> Result<(Process, Place), ServerError> {
        let account = Account::of(P::SERVER, P::USERS)?;
        directory::lasting(directory, account.as_ref())?;
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
            lay_out::<P>(&place, launch.account.as_ref()).await?;
            let written = P::arguments(&place, &self.settings);
            launch.arguments = written.map_err(ServerError::cannot("configure a server"))?;
            launch.arguments.extend(self.arguments.iter().cloned());
            if let Launched::Answering(process) = launch.run::<P>(&place).await? {
                return Ok((process, launch, place));
            }
            tried.push(port);
        }
        let program = P::SERVER.name();
        Err(ServerError::PortsTaken { program, tried })
    }
}

impl<P: Program> Server<P> {
    /// Says how a server is started.
    pub fn builder() -> Builder<P> {
        Builder::new()
    }

    /// Starts one as it is by itself.
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
        Box::new(free_ports().take(PORTS_TO_TRY))
    } else {
        Box::new(wanted.into_iter())
    }
}

/// Makes the data directory where there is none yet.
async fn lay_out<P: Program>(place: &Place, account: Option<&Account>) -> Result<(), ServerError> {
    if place.data_dir().exists() {
        return Ok(());
    }
    match P::layout().await? {
        Some(layout) => layout.copy_to(place).await,
        None => directory::for_data(&place.data_dir(), account),
    }
}
