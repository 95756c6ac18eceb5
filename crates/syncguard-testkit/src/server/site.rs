#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::{net::SocketAddr, sync::Arc};

use super::{handle::Server, program::Program, shared::Shared};

/// A server of which a test needs the address: its own, or one that other tests use as well.
#[derive(Debug)]
#[must_use = "a server may end with its handle"]
pub enum Site<P: Program> {
    /// A server of this process.
    Own(Arc<Server<P>>),
    /// A server that the tests share.
    Shared(Shared<P>),
}

impl<P: Program> Site<P> {
    /// Returns the URL of the server.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::Own(server) => server.url(),
            Self::Shared(server) => server.url().to_owned(),
        }
    }

    /// Returns the URL of the server with another address, such as that of a
    /// [`Proxy`](crate::proxy::Proxy).
    #[must_use]
    pub fn url_through(&self, address: SocketAddr) -> String {
        match self {
            Self::Own(server) => server.url_through(address),
            Self::Shared(server) => server.url_through(address),
        }
    }

    /// Returns the socket address of the server.
    ///
    /// # Panics
    ///
    /// If the host name of a shared server cannot be resolved.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Own(server) => server.address(),
            Self::Shared(server) => server.address().unwrap(),
        }
    }

    /// Shuts the server down and starts it again.
    ///
    /// # Panics
    ///
    /// If other tests use the server as well, or if it does not start again.
    pub async fn restart(&self) {
        match self {
            Self::Own(server) => server.restart().await.unwrap(),
            Self::Shared(_) => panic!("others use it as well"),
        }
    }
}

impl<P: Program> From<Server<P>> for Site<P> {
    fn from(server: Server<P>) -> Self {
        Self::Own(Arc::new(server))
    }
}
