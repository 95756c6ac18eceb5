use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    ops::Range,
    sync::Arc,
};

use super::{builder::Builder, error::ServerError, handle::Server, program::Program};
use crate::cache::WeakCell;

/// A kind of server that the tests of a process can share.
pub trait Shareable: Program {
    /// Returns the cell of the server that the tests of this process share.
    #[doc(hidden)]
    fn cell() -> &'static WeakCell<Server<Self>>;

    /// Returns the server that the variable of [`STORE`](Program::STORE) names, or else one that
    /// the tests of this process share while any of them holds it.
    ///
    /// For tests that need only a store, and use names of their own in it. A test that stops or
    /// kills a server starts its own.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`](super::Builder::start).
    fn shared() -> impl Future<Output = Result<Shared<Self>, ServerError>> + Send {
        Shared::get()
    }
}

/// A server that tests share. It ends when the last of them drops it, unless the environment named
/// it.
#[derive(Debug)]
#[must_use = "a shared server may end when nobody holds it"]
pub struct Shared<P: Program> {
    url: String,
    own: Option<Arc<Server<P>>>,
}

impl<P: Shareable> Shared<P> {
    async fn get() -> Result<Self, ServerError> {
        if let Some(url) = P::STORE.address() {
            return Ok(Self { url, own: None });
        }
        let server = P::cell().get_or_try_init(Self::builder().start()).await?;
        Ok(Self { url: server.url(), own: Some(server) })
    }
}

impl<P: Program> Shared<P> {
    /// Configures a shared server.
    pub(super) fn builder() -> Builder<P> {
        let settings = P::SHARED_SETTINGS.iter();
        settings.fold(Builder::new(), |builder, (name, value)| builder.setting(*name, *value))
    }

    /// Returns the URL of the server.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the URL of the server with another address, such as that of a
    /// [`Proxy`](crate::proxy::Proxy).
    #[must_use]
    pub fn url_through(&self, address: SocketAddr) -> String {
        let mut url = self.url.clone();
        url.replace_range(host_and_port(&url), &address.to_string());
        url
    }

    /// Returns the socket address of the server.
    ///
    /// # Errors
    ///
    /// If the host name cannot be resolved.
    pub fn address(&self) -> io::Result<SocketAddr> {
        let host_and_port = &self.url[host_and_port(&self.url)];
        let addresses = match host_and_port.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => host_and_port.to_socket_addrs()?,
            _ => (host_and_port, P::STORE.port()).to_socket_addrs()?,
        };
        let mut addresses = addresses.into_iter();
        addresses.next().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    /// Returns the server if this process started it. Other tests use it as well: a test may
    /// inspect it, but must not stop or kill it.
    #[must_use]
    pub fn own(&self) -> Option<&Server<P>> {
        self.own.as_deref()
    }
}

/// Finds the host and its port in a URL: after the user, before the path.
fn host_and_port(url: &str) -> Range<usize> {
    let start = url.find("://").map_or(0, |scheme| scheme + 3);
    let end = url[start..].find(['/', '?']).map_or(url.len(), |path| start + path);
    let start = url[start..end].rfind('@').map_or(start, |user| start + user + 1);
    start..end
}

#[cfg(test)]
mod tests {
    use super::{super::Postgres, Shared};

    fn shared(url: &str) -> Shared<Postgres> {
        Shared { url: url.to_owned(), own: None }
    }

    #[test]
    fn the_url_through_another_address_changes_only_host_and_port() {
        let through = "127.0.0.1:9".parse().unwrap();
        for (url, expected) in [
            ("postgres://h", "postgres://127.0.0.1:9"),
            ("postgres://u:p@h:1/d?a=b/@", "postgres://u:p@127.0.0.1:9/d?a=b/@"),
            ("postgres://[::1]:1?a", "postgres://127.0.0.1:9?a"),
        ] {
            assert_eq!(shared(url).url_through(through), expected);
        }
    }

    #[test]
    fn a_url_without_a_port_has_the_default_port() {
        for (url, expected) in [
            ("postgres://127.0.0.1/d", "127.0.0.1:5432"),
            ("postgres://u@127.0.0.1:1/d", "127.0.0.1:1"),
        ] {
            assert_eq!(shared(url).address().unwrap().to_string(), expected);
        }
    }
}
