//! Opening a backend.

use std::sync::Arc;

use syncguard_core::{Error, Operation};

use crate::{
    RedisBackend, RedisConfig, check, client::Client, error::Failure, replicas, store::Store,
    waiters::Waiters,
};

impl RedisBackend {
    /// Connects to an [address](RedisConfig::from_url) with the default settings.
    ///
    /// # Errors
    ///
    /// As [`RedisConfig::from_url`] and [`RedisConfig::connect`].
    pub async fn connect(url: &str) -> Result<Self, Error> {
        RedisConfig::from_url(url)?.connect().await
    }
}

impl RedisConfig {
    /// Connects, and looks at the server's settings. The backend belongs to the runtime on which this is
    /// called: see [`RedisBackend`].
    ///
    /// # Errors
    ///
    /// - [`Internal`](syncguard_core::ErrorKind::Internal) outside of a tokio runtime.
    /// - [`InvalidArgument`](syncguard_core::ErrorKind::InvalidArgument) for a value that breaks its
    ///   rule.
    /// - [`ServiceUnavailable`](syncguard_core::ErrorKind::ServiceUnavailable) where the server cannot
    ///   be reached in time.
    /// - [`AuthFailed`](syncguard_core::ErrorKind::AuthFailed) where it refuses the credentials.
    /// - [`Unsupported`](syncguard_core::ErrorKind::Unsupported) where its settings are unsafe and that
    ///   is to be [refused](syncguard_core::UnsafeSettings::Refuse).
    pub async fn connect(self) -> Result<RedisBackend, Error> {
        let opened = open(self).await.map_err(|failure| failure.into_error(Operation::Connect));
        Ok(RedisBackend(Arc::new(opened?)))
    }
}

async fn open(config: RedisConfig) -> Result<Store, Failure> {
    let (settings, layout) = config.validated()?;
    let options = config.options;
    let client = Client::connect(settings.clone()).await?;
    replicas::may_wait(&client, options.replicas).await?;
    let waiters = Waiters::new(settings, &client).await?;
    let store = Store { client, layout, options, waiters };
    let checking = async {
        let findings = check::check(&store).await;
        findings.map_err(|failure| failure.into_error(Operation::Check))
    };
    config.unsafe_settings.enforce(checking).await?;
    Ok(store)
}
