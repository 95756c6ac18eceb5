//! Deserialization of the configuration.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error as _};
use syncguard_core::{Error, UnsafeSettings};

use crate::PostgresConfig;

/// The fields of a configuration. Each corresponds to the method of the same name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    url: String,
    tables: Option<Tables>,
    #[serde(default)]
    existing_tables_only: bool,
    max_connections: Option<u32>,
    #[serde(default, with = "humantime_serde")]
    connect_timeout: Option<Duration>,
    #[serde(default, with = "humantime_serde")]
    statement_timeout: Option<Duration>,
    #[serde(default, with = "humantime_serde")]
    lock_timeout: Option<Duration>,
    #[serde(default)]
    pgbouncer: bool,
    listen_url: Option<String>,
    #[serde(default)]
    without_listening: bool,
    #[serde(default)]
    seed_new_counters: bool,
    #[serde(default)]
    unsafe_settings: UnsafeSettings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    locks: String,
    counters: String,
}

impl<'de> Deserialize<'de> for PostgresConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(Fields::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl TryFrom<Fields> for PostgresConfig {
    type Error = Error;

    fn try_from(fields: Fields) -> Result<Self, Error> {
        let mut config = Self::from_url(&fields.url)?.unsafe_settings(fields.unsafe_settings);
        if let Some(Tables { locks, counters }) = fields.tables {
            config = config.tables(locks, counters);
        }
        if fields.existing_tables_only {
            config = config.existing_tables_only();
        }
        if let Some(count) = fields.max_connections {
            config = config.max_connections(count);
        }
        if let Some(timeout) = fields.connect_timeout {
            config = config.connect_timeout(timeout);
        }
        if let Some(timeout) = fields.statement_timeout {
            config = config.statement_timeout(timeout);
        }
        if let Some(timeout) = fields.lock_timeout {
            config = config.lock_timeout(timeout);
        }
        if fields.pgbouncer {
            config = config.pgbouncer();
        }
        if let Some(url) = fields.listen_url {
            config = config.listen_url(&url)?;
        }
        if fields.without_listening {
            config = config.without_listening();
        }
        if fields.seed_new_counters {
            config = config.seed_new_counters();
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};
    use syncguard_core::UnsafeSettings;

    use crate::{PostgresConfig, config::Listening};

    const URL: &str = "postgres://u:secret@localhost:1/db";

    fn read(value: Value) -> serde_json::Result<PostgresConfig> {
        serde_json::from_value(value)
    }

    fn show(config: &PostgresConfig) -> String {
        let text = format!("{config:?}");
        assert!(!text.contains("secret"), "{text}");
        text
    }

    #[test]
    fn each_field_stands_for_the_method_of_its_name() {
        let config = PostgresConfig::from_url(URL).unwrap();
        assert_eq!(show(&read(json!({ "url": URL })).unwrap()), show(&config));
        let all = json!({
            "url": URL, "tables": { "locks": "l", "counters": "c" }, "existing_tables_only": true,
            "max_connections": 3, "connect_timeout": "200ms", "statement_timeout": "3s",
            "lock_timeout": "2s", "pgbouncer": true, "listen_url": URL, "seed_new_counters": true,
            "unsafe_settings": "ignore",
        });
        let config = config
            .tables("l", "c")
            .existing_tables_only()
            .max_connections(3)
            .connect_timeout(Duration::from_millis(200))
            .statement_timeout(Duration::from_secs(3))
            .lock_timeout(Duration::from_secs(2))
            .pgbouncer()
            .listen_url(URL)
            .unwrap()
            .seed_new_counters()
            .unsafe_settings(UnsafeSettings::Ignore);
        let read_all = read(all).unwrap();
        assert_eq!(show(&read_all), show(&config));
        assert!(matches!(read_all.listening, Listening::At(_)));
        let silent = read(json!({ "url": URL, "without_listening": true })).unwrap();
        assert!(matches!(silent.listening, Listening::Nowhere));
    }

    #[test]
    fn what_is_unknown_or_cannot_be_read_is_refused_without_the_password() {
        for (bad, name) in [
            (json!({ "url": URL, "tabels": {} }), "tabels"),
            (json!({ "url": URL, "tables": { "locks": "l", "count": "c" } }), "count"),
            (json!({ "url": URL, "lock_timeout": "soon" }), "soon"),
            (json!({ "url": format!("http{URL}") }), "postgres://"),
            (json!({ "url": URL, "listen_url": format!("http{URL}") }), "postgres://"),
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains(name) && !error.contains("secret"), "{error}");
        }
    }
}
