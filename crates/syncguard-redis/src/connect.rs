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
    /// Same as [`RedisConfig::from_url`] and [`RedisConfig::connect`].
    pub async fn connect(url: &str) -> Result<Self, Error> {
        RedisConfig::from_url(url)?.connect().await
    }
}

impl RedisConfig {
    /// Connects and checks the server's settings. The backend belongs to the runtime on which this
    /// is called: see [`RedisBackend`].
    ///
    /// # Errors
    ///
    /// - [`Internal`](syncguard_core::ErrorKind::Internal) outside of a tokio runtime.
    /// - [`InvalidArgument`](syncguard_core::ErrorKind::InvalidArgument) if a value breaks its
    ///   rule.
    /// - [`ServiceUnavailable`](syncguard_core::ErrorKind::ServiceUnavailable) if the server cannot
    ///   be reached in time.
    /// - [`AuthFailed`](syncguard_core::ErrorKind::AuthFailed) if the server refuses the
    ///   credentials.
    /// - [`Unsupported`](syncguard_core::ErrorKind::Unsupported) if the server's settings are
    ///   unsafe and the configuration [refuses](syncguard_core::UnsafeSettings::Refuse) that.
    pub async fn connect(self) -> Result<RedisBackend, Error> {
        let opened = open(self).await.map_err(|failure| failure.into_error(Operation::Connect));
        Ok(RedisBackend(Arc::new(opened?)))
    }
}

async fn open(config: RedisConfig) -> Result<Store, Failure> {
    let (settings, layout) = config.validated()?;
    let options = config.options;
    let client = Client::connect(settings.clone()).await?;
    replicas::check_wait_permission(&client, options.replicas).await?;
    let waiters = Waiters::new(settings, &client).await?;
    let store = Store { client, layout, options, waiters };
    let checking = async {
        let findings = check::check(&store).await;
        findings.map_err(|failure| failure.into_error(Operation::Check))
    };
    config.unsafe_settings.enforce(checking).await?;
    Ok(store)
}
