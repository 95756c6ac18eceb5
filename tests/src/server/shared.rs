use std::sync::Arc;

use super::{Builder, Program, Server, ServerError};

/// A server that tests share. It ends when the last of them drops it, unless it is somebody else's.
#[derive(Debug)]
#[must_use = "a shared server may end when nobody holds it"]
pub struct Shared<P: Program> {
    url: String,
    own: Option<Arc<Server<P>>>,
}

impl<P: Program> Shared<P> {
    pub(super) async fn get() -> Result<Self, ServerError> {
        if let Some(url) = P::STORE.address() {
            return Ok(Self { url, own: None });
        }
        let server = P::kept().or_make(Self::builder().start()).await?;
        Ok(Self { url: server.url(), own: Some(server) })
    }

    /// How such a server is started here.
    pub(super) fn builder() -> Builder<P> {
        let settings = P::SHARED.iter();
        settings.fold(Builder::new(), |builder, (name, value)| builder.setting(*name, *value))
    }

    /// The address as clients write it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The server, where it was started here. Others use it as well: it may be looked into, not
    /// broken.
    #[must_use]
    pub fn own(&self) -> Option<&Server<P>> {
        self.own.as_deref()
    }
}
