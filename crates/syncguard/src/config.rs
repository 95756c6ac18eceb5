//! The stores of a service, as described in its own configuration.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value};
use syncguard_core::{DynBackend, Error, Owner};

use crate::backends::{ALL, Open};

/// Describes the stores of a service and their names, in any self-describing format that serde
/// reads, as a part of the service's own configuration.
/// [`Registry::connect`](crate::Registry::connect) opens them.
///
/// Unknown fields are refused, here and in each store, so that a misspelt one is not ignored.
/// Durations are text such as `30s` or `1m30s`. A field that is left out has the backend's default.
///
/// | `driver` | Fields, besides `unsafe_settings` | Feature |
/// | --- | --- | --- |
/// | `null` | none: [coordinates nothing](crate::NullBackend) | |
/// | `memory` | `seed_new_counters` | `memory` |
/// | `sqlite` | `path`; `busy_timeout`, `existing_only`, `seed_new_counters` | `sqlite` |
/// | `redis` | `url`; `prefix`, `grace`, `command_timeout`, `connect_timeout`, `wait_for_replicas` with `count` and `timeout`, `seed_new_counters`, `expire_counters` | `redis` |
/// | `postgres` | `url`; `tables` with `locks` and `counters`, `existing_tables_only`, `max_connections`, `connect_timeout`, `statement_timeout`, `lock_timeout`, `pgbouncer`, `listen_url`, `without_listening`, `seed_new_counters` | `postgres` |
/// | `mysql` | `url`; `table`, `existing_table_only`, `max_connections`, `connect_timeout`, `statement_timeout`, `lock_timeout`, `seed_new_counters` | `mysql` |
/// | `firestore` | `project`; `database`, `collections` with `locks` and `fences`, `emulator`, `request_timeout`, `connect_timeout`, `seed_new_counters` | `firestore` |
///
/// The fields before the semicolon are required. Each field corresponds to the method of the same
/// name of the backend's configuration, which documents it.
///
/// # Examples
///
#[cfg_attr(all(feature = "sqlite", feature = "redis"), doc = "```")]
#[cfg_attr(not(all(feature = "sqlite", feature = "redis")), doc = "```ignore")]
/// let config: syncguard::Config = serde_json::from_str(
///     r#"{
///         "default": "jobs",
///         "owner": "billing",
///         "stores": {
///             "jobs": { "driver": "sqlite", "path": "/var/lib/billing/locks.db" },
///             "payments": {
///                 "driver": "redis",
///                 "url": "redis://:secret@cache:6379",
///                 "command_timeout": "2s"
///             }
///         }
///     }"#,
/// )?;
/// assert_eq!(config.stores.len(), 2);
/// assert!(!format!("{config:?}").contains("secret"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The name of the default store.
    pub default: String,
    /// The stores by name.
    pub stores: BTreeMap<String, StoreConfig>,
    /// The owner label of all locks that do not set their own. The default is `host:pid`.
    #[serde(default)]
    pub owner: Option<Owner>,
    /// The maximum duration of one request to a store.
    #[serde(default, with = "humantime_serde")]
    pub request_timeout: Option<Duration>,
}

/// Describes one store: the field `driver`, and those of the driver's own configuration.
///
/// It is an error if the driver is unknown or its feature is not enabled, or if a field is unknown
/// or cannot be read. `Debug` shows no password.
#[derive(Clone)]
pub struct StoreConfig(Arc<dyn Open>);

impl StoreConfig {
    /// Describes the store that a URL names, as [`connect`](crate::connect) reads it.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidArgument`](crate::ErrorKind::InvalidArgument) as [`connect`](crate::connect)
    /// does.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        ALL.read_url(url).map(Self)
    }

    /// Sets `seed_new_counters`, which each backend has: the fence of each grant is at least the
    /// store's clock, so that counters can be [retired](crate::LockManager::retire_counters). All
    /// clients of the store must set it.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "memory")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), syncguard::Error> {
    /// use syncguard::{DurationExt, LockManager, StoreConfig};
    ///
    /// let store = StoreConfig::from_url("memory:")?.seed_new_counters();
    /// let locks = LockManager::new(store.connect().await?);
    /// assert_eq!(locks.retire_counters(720.hours()).await?, 0);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "memory"))]
    /// # fn main() {}
    /// ```
    #[must_use]
    pub fn seed_new_counters(self) -> Self {
        Self(self.0.seeded())
    }

    /// Opens the store.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if a value breaks its rule;
    /// otherwise the reason why the store could not be opened.
    pub async fn connect(&self) -> Result<DynBackend, Error> {
        self.0.open().await
    }
}

impl<'de> Deserialize<'de> for StoreConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Tagged {
            driver: String,
            #[serde(flatten)]
            fields: Map<String, Value>,
        }
        let Tagged { driver, fields } = Tagged::deserialize(deserializer)?;
        ALL.read_fields(&driver, fields).map(Self).map_err(D::Error::custom)
    }
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Config, StoreConfig};
    use crate::backend::LockBackend;

    fn read(value: Value) -> serde_json::Result<StoreConfig> {
        serde_json::from_value(value)
    }

    #[tokio::test]
    async fn a_store_is_a_driver_and_its_fields() {
        let null = read(json!({ "driver": "null" })).unwrap();
        assert!(!null.connect().await.unwrap().capabilities().exclusive);
        for (bad, reason) in [
            (json!({ "driver": "null", "url": "null:" }), "url"),
            (json!({ "driver": "pigeon" }), "\"pigeon\" is unknown"),
            (json!({ "url": "null:" }), "driver"),
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn an_unknown_field_of_the_configuration_is_refused() {
        let config = json!({ "default": "a", "stores": {}, "stoers": {} });
        let error = serde_json::from_value::<Config>(config).unwrap_err().to_string();
        assert!(error.contains("stoers"), "{error}");
    }

    #[cfg(all(
        feature = "sqlite",
        feature = "redis",
        feature = "postgres",
        feature = "mysql",
        feature = "firestore"
    ))]
    #[tokio::test]
    async fn every_backend_is_described_by_its_own_configuration() {
        use crate::ErrorKind;

        for store in [
            json!({ "driver": "sqlite", "path": "/nowhere/locks.db", "existing_only": true }),
            json!({ "driver": "redis", "url": "redis://u:secret@localhost:1/0", "prefix": "app" }),
            json!({ "driver": "postgres", "url": "postgres://u:secret@localhost:1/db" }),
            json!({ "driver": "mysql", "url": "mysql://u:secret@localhost:1/db", "table": "l" }),
        ] {
            let store = read(store).unwrap();
            assert!(!format!("{store:?}").contains("secret"), "{store:?}");
            let error = store.connect().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ServiceUnavailable, "{error}");
        }
        let firestore = json!({ "driver": "firestore", "project": "p", "emulator": "localhost:1" });
        read(firestore).unwrap().connect().await.unwrap();
    }
}
