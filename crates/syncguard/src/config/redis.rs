use std::time::Duration;

use serde::Deserialize;
use syncguard_core::UnsafeSettings;

use super::SecretUrl;

/// A Redis or Valkey server, cluster or group of sentinels.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RedisStore {
    /// The address, as [`connect`](crate::connect()) takes it.
    pub url: SecretUrl,
    /// What the names of all keys begin with.
    #[serde(default)]
    pub prefix: Option<String>,
    /// How long past its expiry a grant still keeps its key.
    #[serde(default, with = "humantime_serde")]
    pub grace: Option<Duration>,
    /// How long a command may take.
    #[serde(default, with = "humantime_serde")]
    pub command_timeout: Option<Duration>,
    /// How long it may take to connect.
    #[serde(default, with = "humantime_serde")]
    pub connect_timeout: Option<Duration>,
    /// How many replicas a grant waits for.
    #[serde(default)]
    pub replicas: Option<Replicas>,
    /// What to do where the server's settings would break a promise.
    #[serde(default)]
    pub unsafe_settings: UnsafeSettings,
}

/// How many replicas a grant waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Replicas {
    /// How many.
    pub count: u32,
    /// For how long at the most.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

#[cfg(feature = "redis")]
impl RedisStore {
    pub(super) async fn connect(&self) -> Result<crate::DynBackend, crate::Error> {
        use super::set;
        use syncguard_redis::RedisConfig;

        let config =
            RedisConfig::from_url(self.url.as_str())?.unsafe_settings(self.unsafe_settings);
        let config = set(config, self.prefix.as_ref(), RedisConfig::prefix);
        let config = set(config, self.grace, RedisConfig::grace);
        let config = set(config, self.command_timeout, RedisConfig::command_timeout);
        let config = set(config, self.connect_timeout, RedisConfig::connect_timeout);
        let config = set(config, self.replicas, |config, replicas| {
            config.wait_for_replicas(replicas.count, replicas.timeout)
        });
        config.connect().await.map(crate::DynBackend::new)
    }
}
