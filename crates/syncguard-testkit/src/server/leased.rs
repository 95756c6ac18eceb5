use std::{fmt::Debug, net::Ipv4Addr};

use super::{Mariadb, Postgres, Program, Redis, ServerError, Shared, account::Lifetime, double};
use crate::find::Store;

/// A server of any kind that is lent to other processes by its address. It ends with its handle,
/// and on Linux also with the thread that started it.
#[derive(Debug)]
#[must_use = "a server ends with its handle"]
pub struct Lent {
    url: String,
    _server: Box<dyn Debug + Send + Sync>,
}

impl Lent {
    /// Starts one in a temporary directory on a free port, as for tests that share it.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`](super::Builder::start).
    pub async fn start(store: Store) -> Result<Self, ServerError> {
        match store {
            Store::Redis => Self::start_program::<Redis>().await,
            Store::Postgres => Self::start_program::<Postgres>().await,
            Store::Mariadb => Self::start_program::<Mariadb>().await,
            Store::Firestore => Self::start_double().await,
        }
    }

    /// The address as clients write it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    async fn start_program<P: Program>() -> Result<Self, ServerError> {
        let server = Shared::<P>::builder().start().await?;
        Ok(Self { url: server.url(), _server: Box::new(server) })
    }

    async fn start_double() -> Result<Self, ServerError> {
        let made = tempfile::tempdir();
        let directory = made.map_err(ServerError::cannot("make a temporary directory"))?;
        let (anywhere, lifetime) = ((Ipv4Addr::LOCALHOST, 0).into(), Lifetime::OfThisProcess);
        let (process, address) = double::start(anywhere, lifetime, directory.path()).await?;
        // The process ends before its directory.
        Ok(Self { url: Store::Firestore.url(address), _server: Box::new((process, directory)) })
    }
}
