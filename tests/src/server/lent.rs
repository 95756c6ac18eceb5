use std::fmt::Debug;

use super::{Mariadb, Postgres, Program, Redis, ServerError, Shared};
use crate::find::Store;

/// A server of any kind that is lent to other processes by its address. It ends with its handle, and
/// on Linux also with the thread that started it.
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
}
