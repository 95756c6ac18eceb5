use std::{fmt::Debug, net::Ipv4Addr};

use super::{Mariadb, Postgres, Program, Redis, ServerError, Shared, account::Lifetime, emulator};
use crate::find::Store;

/// A server of any kind, which other processes use through its URL. It ends with its handle, and on
/// Linux also with the thread that started it.
#[derive(Debug)]
#[must_use = "a server ends with its handle"]
pub struct AnyServer {
    url: String,
    _server: Box<dyn Debug + Send + Sync>,
}

impl AnyServer {
    /// Starts a server in a temporary directory and on a free port, with the settings of a shared
    /// one.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`](super::Builder::start).
    pub async fn start(store: Store) -> Result<Self, ServerError> {
        match store {
            Store::Redis => Self::start_program::<Redis>().await,
            Store::Postgres => Self::start_program::<Postgres>().await,
            Store::Mariadb => Self::start_program::<Mariadb>().await,
            Store::Firestore => Self::start_emulator().await,
        }
    }

    /// Returns the URL of the server.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    async fn start_program<P: Program>() -> Result<Self, ServerError> {
        let server = Shared::<P>::builder().start().await?;
        Ok(Self { url: server.url(), _server: Box::new(server) })
    }

    async fn start_emulator() -> Result<Self, ServerError> {
        let created = tempfile::tempdir();
        let directory = created.map_err(ServerError::cannot("make a temporary directory"))?;
        let (any_port, lifetime) = ((Ipv4Addr::LOCALHOST, 0).into(), Lifetime::BoundToProcess);
        let (process, address) = emulator::start(any_port, lifetime, directory.path()).await?;
        // The process must be dropped before its directory.
        Ok(Self { url: Store::Firestore.url(address), _server: Box::new((process, directory)) })
    }
}
