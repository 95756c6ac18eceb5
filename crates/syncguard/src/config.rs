//! The stores of a service, as it keeps them in a configuration file of its own.

mod firestore;
mod mysql;
mod postgres;
mod redis;
mod secret;
mod sqlite;

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use syncguard_core::{DynBackend, Error, NullBackend, Owner};

pub use self::{
    firestore::{FirestoreCollections, FirestoreStore},
    mysql::MysqlStore,
    postgres::{PostgresStore, PostgresTables},
    redis::{RedisStore, Replicas},
    secret::SecretUrl,
    sqlite::SqliteStore,
};

/// Describes the stores of a service and their names, in any format that serde reads, as a part of
/// the service's own configuration. [`Registry::connect`](crate::Registry::connect) opens them.
///
/// Unknown fields are refused, here and in each store, so that a misspelt one is not ignored.
/// Durations are text such as `30s` or `1m30s`. A field that is left out has the backend's default.
///
/// | `driver` | Fields | Feature |
/// | --- | --- | --- |
/// | `null` | none: [coordinates nothing](NullBackend) | |
/// | `memory` | none | `memory` |
/// | `sqlite` | those of [`SqliteStore`] | `sqlite` |
/// | `redis` | those of [`RedisStore`] | `redis` |
/// | `postgres` | those of [`PostgresStore`] | `postgres` |
/// | `mysql` | those of [`MysqlStore`] | `mysql` |
/// | `firestore` | those of [`FirestoreStore`] | `firestore` |
///
/// # Examples
///
/// ```
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
    pub stores: BTreeMap<String, Driver>,
    /// The owner label of all locks that do not set their own. The default is `host:pid`.
    #[serde(default)]
    pub owner: Option<Owner>,
    /// The maximum duration of one request to a store.
    #[serde(default, with = "humantime_serde")]
    pub request_timeout: Option<Duration>,
}

/// Describes one store.
// With braces even if there are no fields: serde accepts any field for a unit variant.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "driver", rename_all = "lowercase", deny_unknown_fields)]
#[non_exhaustive]
pub enum Driver {
    /// Grants everything and coordinates nothing.
    Null {},
    /// Locks within this process.
    Memory {},
    /// Locks across the processes of one host, in a SQLite file.
    Sqlite(SqliteStore),
    /// Locks on Redis or Valkey.
    Redis(RedisStore),
    /// Locks in a PostgreSQL database.
    Postgres(PostgresStore),
    /// Locks in a MySQL or MariaDB database.
    Mysql(MysqlStore),
    /// Locks in a Firestore database.
    Firestore(FirestoreStore),
}

impl Driver {
    /// Opens the store.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidArgument`](crate::ErrorKind::InvalidArgument) if the store's feature is not
    /// compiled in or a value breaks its rule; otherwise the reason why the store could not be
    /// opened.
    pub async fn connect(&self) -> Result<DynBackend, Error> {
        match self {
            Self::Null {} => Ok(DynBackend::new(NullBackend::default())),
            #[cfg(feature = "memory")]
            Self::Memory {} => Ok(DynBackend::new(syncguard_memory::MemoryBackend::new())),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(store) => store.connect().await,
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.connect().await,
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.connect().await,
            #[cfg(feature = "mysql")]
            Self::Mysql(store) => store.connect().await,
            #[cfg(feature = "firestore")]
            Self::Firestore(store) => store.connect(),
            #[cfg(not(feature = "memory"))]
            Self::Memory {} => Err(crate::connect::not_compiled("memory")),
            #[cfg(not(feature = "sqlite"))]
            Self::Sqlite(_) => Err(crate::connect::not_compiled("sqlite")),
            #[cfg(not(feature = "redis"))]
            Self::Redis(_) => Err(crate::connect::not_compiled("redis")),
            #[cfg(not(feature = "postgres"))]
            Self::Postgres(_) => Err(crate::connect::not_compiled("postgres")),
            #[cfg(not(feature = "mysql"))]
            Self::Mysql(_) => Err(crate::connect::not_compiled("mysql")),
            #[cfg(not(feature = "firestore"))]
            Self::Firestore(_) => Err(crate::connect::not_compiled("firestore")),
        }
    }
}

/// Applies a setting if it has a value.
#[cfg(any(
    feature = "sqlite",
    feature = "redis",
    feature = "postgres",
    feature = "mysql",
    feature = "firestore"
))]
fn set<C, V>(config: C, value: Option<V>, apply: impl FnOnce(C, V) -> C) -> C {
    match value {
        Some(value) => apply(config, value),
        None => config,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::{Config, Driver};
    use crate::{ErrorKind, UnsafeSettings};

    /// A configuration of each driver with all of its fields.
    fn drivers() -> Vec<Value> {
        let settings = "ignore";
        vec![
            json!({ "driver": "null" }),
            json!({ "driver": "memory" }),
            json!({
                "driver": "sqlite", "path": "/nowhere/locks.db", "busy_timeout": "1s",
                "existing_only": true, "unsafe_settings": settings,
            }),
            json!({
                "driver": "redis", "url": "redis://u:secret@localhost:1/0", "prefix": "app:",
                "grace": "500ms", "command_timeout": "1s", "connect_timeout": "2s",
                "replicas": { "count": 1, "timeout": "100ms" }, "unsafe_settings": settings,
            }),
            json!({
                "driver": "postgres", "url": "postgres://u:secret@localhost:1/db",
                "tables": { "locks": "l", "counters": "c" }, "existing_tables_only": true,
                "max_connections": 3, "connect_timeout": "200ms", "statement_timeout": "3s",
                "lock_timeout": "2s", "pgbouncer": true, "without_listening": false,
                "listen_url": "postgres://u:secret@localhost:2/db", "unsafe_settings": settings,
            }),
            json!({
                "driver": "mysql", "url": "mysql://u:secret@localhost:1/db", "table": "l",
                "existing_table_only": true, "max_connections": 3, "connect_timeout": "200ms",
                "statement_timeout": "3s", "lock_timeout": "2s", "unsafe_settings": settings,
            }),
            json!({
                "driver": "firestore", "project": "project-1", "database": "db",
                "collections": { "locks": "l", "fences": "f" }, "emulator": "localhost:1",
                "request_timeout": "1s", "connect_timeout": "2s", "unsafe_settings": settings,
            }),
        ]
    }

    fn read(value: &Value) -> serde_json::Result<Driver> {
        serde_json::from_value(value.clone())
    }

    #[test]
    fn every_field_of_every_store_is_read() {
        for value in drivers() {
            let driver = read(&value).unwrap();
            assert!(!format!("{driver:?}").contains("secret"), "{driver:?}");
        }
        let Ok(Driver::Redis(redis)) = read(&drivers()[3]) else { panic!("it is the fourth") };
        assert_eq!(redis.command_timeout, Some(Duration::from_secs(1)));
        assert_eq!(redis.unsafe_settings, UnsafeSettings::Ignore);
        assert_eq!(redis.url.as_str(), "redis://u:secret@localhost:1/0");
    }

    #[test]
    fn a_field_that_is_unknown_is_refused_and_named() {
        for value in drivers() {
            for path in ["", "/tables", "/replicas", "/collections"] {
                let mut misspelt = value.clone();
                let Some(Value::Object(fields)) = misspelt.pointer_mut(path) else { continue };
                fields.insert("uurl".to_owned(), json!("x"));
                let refused = read(&misspelt).unwrap_err().to_string();
                assert!(refused.contains("uurl"), "{value}: {refused}");
            }
        }
        let config = json!({ "default": "a", "stores": {}, "stoers": {} });
        let refused = serde_json::from_value::<Config>(config).unwrap_err().to_string();
        assert!(refused.contains("stoers"), "{refused}");
    }

    #[test]
    fn a_driver_that_is_unknown_is_refused_beside_those_that_are_known() {
        let refused = read(&json!({ "driver": "pigeon" })).unwrap_err().to_string();
        for known in
            ["pigeon", "null", "memory", "sqlite", "redis", "postgres", "mysql", "firestore"]
        {
            assert!(refused.contains(known), "{refused}");
        }
    }

    #[test]
    fn a_duration_that_is_none_is_refused() {
        let sqlite = json!({ "driver": "sqlite", "path": "locks.db", "busy_timeout": "soon" });
        assert!(read(&sqlite).is_err());
    }

    /// No server listens at these addresses, and an earlier error is reported as such.
    #[tokio::test]
    async fn what_is_not_compiled_in_names_its_feature_and_the_rest_is_opened() {
        for value in drivers() {
            let connected = read(&value).unwrap().connect().await;
            let name = value["driver"].as_str().unwrap();
            let compiled = crate::connect::ENABLED.contains(&name);
            let error = match (connected, name) {
                (Ok(_), "null" | "memory" | "firestore") if compiled => continue,
                (connected, _) => connected.unwrap_err(),
            };
            assert_eq!(error.kind() == ErrorKind::InvalidArgument, !compiled, "{error}");
            assert_eq!(error.to_string().contains(&format!("feature {name:?}")), !compiled);
        }
    }
}
