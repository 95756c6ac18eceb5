use std::time::Duration;

use serde::Deserialize;
use syncguard_core::UnsafeSettings;

use super::SecretUrl;

/// Two tables in a PostgreSQL database.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PostgresStore {
    /// The address, as [`connect`](crate::connect()) accepts it.
    pub url: SecretUrl,
    /// The names of the two tables.
    #[serde(default)]
    pub tables: Option<PostgresTables>,
    /// Whether missing tables are an error.
    #[serde(default)]
    pub existing_tables_only: bool,
    /// How many statements run at a time.
    #[serde(default)]
    pub max_connections: Option<u32>,
    /// The maximum wait for a connection.
    #[serde(default, with = "humantime_serde")]
    pub connect_timeout: Option<Duration>,
    /// The maximum duration of a statement.
    #[serde(default, with = "humantime_serde")]
    pub statement_timeout: Option<Duration>,
    /// The maximum wait of a statement for others.
    #[serde(default, with = "humantime_serde")]
    pub lock_timeout: Option<Duration>,
    /// Whether the address is that of a transaction pooler.
    #[serde(default)]
    pub pgbouncer: bool,
    /// Where to listen for releases, if not at the address.
    #[serde(default)]
    pub listen_url: Option<SecretUrl>,
    /// Whether to do without wake-ups.
    #[serde(default)]
    pub without_listening: bool,
    /// What to do if the server's settings would break a guarantee.
    #[serde(default)]
    pub unsafe_settings: UnsafeSettings,
}

/// The names of two tables.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PostgresTables {
    /// The table of locks.
    pub locks: String,
    /// The table of fence counters.
    pub counters: String,
}

#[cfg(feature = "postgres")]
impl PostgresStore {
    pub(super) async fn connect(&self) -> Result<crate::DynBackend, crate::Error> {
        use super::set;
        use syncguard_postgres::PostgresConfig;

        let config = PostgresConfig::from_url(self.url.as_str())?;
        let config =
            set(config.unsafe_settings(self.unsafe_settings), self.tables.as_ref(), |c, tables| {
                c.tables(&tables.locks, &tables.counters)
            });
        let config = set(config, self.max_connections, PostgresConfig::max_connections);
        let config = set(config, self.connect_timeout, PostgresConfig::connect_timeout);
        let config = set(config, self.statement_timeout, PostgresConfig::statement_timeout);
        let config = set(config, self.lock_timeout, PostgresConfig::lock_timeout);
        let config = match &self.listen_url {
            Some(url) => config.listen_url(url.as_str())?,
            None => config,
        };
        let if_set = |set: bool| set.then_some(());
        let config = set(config, if_set(self.pgbouncer), |c, ()| c.pgbouncer());
        let config = set(config, if_set(self.without_listening), |c, ()| c.without_listening());
        let config =
            set(config, if_set(self.existing_tables_only), |c, ()| c.existing_tables_only());
        config.connect().await.map(crate::DynBackend::new)
    }
}
