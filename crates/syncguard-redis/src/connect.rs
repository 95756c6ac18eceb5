//! Opening a backend.

use syncguard_core::Operation;

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
    let checking = async {
        let findings = check::check(&store).await;
        findings.map_err(|failure| failure.into_error_at(&store.server, Operation::Check))
    };
    config.unsafe_settings.enforce(checking).await?;
    Ok(store)
}
