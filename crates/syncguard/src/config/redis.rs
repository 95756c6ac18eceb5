use std::time::Duration;

use serde::Deserialize;
use syncguard_core::UnsafeSettings;

use super::SecretUrl;

/// A Redis or Valkey server, cluster or group of sentinels.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RedisStore {
    /// The address, as [`connect`](crate::connect()) accepts it.
    pub url: SecretUrl,
    /// The prefix of all key names.
    #[serde(default)]
    pub prefix: Option<String>,
    /// How long past its expiry a grant still keeps its key.
    #[serde(default, with = "humantime_serde")]
    pub grace: Option<Duration>,
    /// The maximum duration of a command.
    #[serde(default, with = "humantime_serde")]
    pub command_timeout: Option<Duration>,
    /// The maximum duration of connecting.
    #[serde(default, with = "humantime_serde")]
    pub connect_timeout: Option<Duration>,
    /// How many replicas a grant waits for.
    #[serde(default)]
    pub replicas: Option<Replicas>,
    /// What to do if the server's settings would break a guarantee.
    #[serde(default)]
    pub unsafe_settings: UnsafeSettings,
}

/// How many replicas a grant waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Replicas {
    /// The number of replicas.
    pub count: u32,
    /// The maximum wait for them.
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
