use std::time::Duration;

use serde::Deserialize;
use syncguard_core::UnsafeSettings;

use super::SecretUrl;

/// A table in a MySQL or MariaDB database.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct MysqlStore {
    /// The address, as [`connect`](crate::connect()) accepts it.
    pub url: SecretUrl,
    /// The name of the table.
    #[serde(default)]
    pub table: Option<String>,
    /// Whether a missing table is an error.
    #[serde(default)]
    pub existing_table_only: bool,
    /// How many requests run at a time.
    #[serde(default)]
    pub max_connections: Option<u32>,
    /// The maximum wait for a connection.
    #[serde(default, with = "humantime_serde")]
    pub connect_timeout: Option<Duration>,
    /// The maximum duration of a request.
    #[serde(default, with = "humantime_serde")]
    pub statement_timeout: Option<Duration>,
    /// The maximum wait of a statement for others, in whole seconds.
    #[serde(default, with = "humantime_serde")]
    pub lock_timeout: Option<Duration>,
    /// What to do if the server's settings would break a guarantee.
    #[serde(default)]
    pub unsafe_settings: UnsafeSettings,
}

#[cfg(feature = "mysql")]
impl MysqlStore {
    pub(super) async fn connect(&self) -> Result<crate::DynBackend, crate::Error> {
        use super::set;
        use syncguard_mysql::MysqlConfig;

        let config =
            MysqlConfig::from_url(self.url.as_str())?.unsafe_settings(self.unsafe_settings);
        let config = set(config, self.table.as_ref(), MysqlConfig::table);
        let config = set(config, self.max_connections, MysqlConfig::max_connections);
        let config = set(config, self.connect_timeout, MysqlConfig::connect_timeout);
        let config = set(config, self.statement_timeout, MysqlConfig::statement_timeout);
        let config = set(config, self.lock_timeout, MysqlConfig::lock_timeout);
        let config = if self.existing_table_only { config.existing_table_only() } else { config };
        config.connect().await.map(crate::DynBackend::new)
    }
}
