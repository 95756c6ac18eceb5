//! Opening a backend.

use crate::{
    RedisConfig, check, client::Client, error::Failure, replicas, store::Store, waiters::Waiters,
};

/// Connects and checks the server's settings.
pub(crate) async fn connect(config: RedisConfig) -> Result<Store, Failure> {
    let (server, (settings, layout)) = (config.server(), config.validated()?);
    let options = config.options;
    let client = Client::connect(settings.clone()).await?;
    replicas::check_wait_permission(&client, options.replicas).await?;
    let waiters = Waiters::new(settings, &client).await?;
    let store = Store { server, client, layout, options, waiters };
    let failed = |failure: Failure| failure.into_error_at(&store.server);
    let checking = async { check::check(&store).await.map_err(failed) };
    config.unsafe_settings.enforce(checking).await?;
    Ok(store)
}
