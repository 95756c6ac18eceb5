//! Deserialization of the configuration.

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use syncguard_core::UnsafeSettings;

use crate::FirestoreConfig;

/// The fields of a configuration. Each corresponds to the method of the same name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    project: String,
    database: Option<String>,
    collections: Option<Collections>,
    emulator: Option<String>,
    #[serde(default, with = "humantime_serde")]
    request_timeout: Option<Duration>,
    #[serde(default, with = "humantime_serde")]
    connect_timeout: Option<Duration>,
    #[serde(default)]
    seed_new_counters: bool,
    #[serde(default)]
    unsafe_settings: UnsafeSettings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Collections {
    locks: String,
    fences: String,
}

impl<'de> Deserialize<'de> for FirestoreConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Fields::deserialize(deserializer).map(Self::from)
    }
}

impl From<Fields> for FirestoreConfig {
    fn from(fields: Fields) -> Self {
        let mut config = Self::new(fields.project).unsafe_settings(fields.unsafe_settings);
        if let Some(database) = fields.database {
            config = config.database(database);
        }
        if let Some(Collections { locks, fences }) = fields.collections {
            config = config.collections(locks, fences);
        }
        if let Some(address) = fields.emulator {
            config = config.emulator(address);
        }
        if let Some(timeout) = fields.request_timeout {
            config = config.request_timeout(timeout);
        }
        if let Some(timeout) = fields.connect_timeout {
            config = config.connect_timeout(timeout);
        }
        if fields.seed_new_counters {
            config = config.seed_new_counters();
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};
    use syncguard_core::UnsafeSettings;

    use crate::FirestoreConfig;

    fn read(value: Value) -> serde_json::Result<FirestoreConfig> {
        serde_json::from_value(value)
    }

    fn show(config: &FirestoreConfig) -> String {
        format!("{config:?}")
    }

    #[test]
    fn each_field_stands_for_the_method_of_its_name() {
        let config = FirestoreConfig::new("p");
        assert_eq!(show(&read(json!({ "project": "p" })).unwrap()), show(&config));
        let all = json!({
            "project": "p", "database": "db", "collections": { "locks": "l", "fences": "f" },
            "emulator": "localhost:1", "request_timeout": "1s", "connect_timeout": "2s",
            "seed_new_counters": true, "unsafe_settings": "ignore",
        });
        let config = config
            .database("db")
            .collections("l", "f")
            .emulator("localhost:1")
            .request_timeout(Duration::from_secs(1))
            .connect_timeout(Duration::from_secs(2))
            .seed_new_counters()
            .unsafe_settings(UnsafeSettings::Ignore);
        assert_eq!(show(&read(all).unwrap()), show(&config));
    }

    #[test]
    fn what_is_unknown_or_cannot_be_read_is_refused() {
        for (bad, name) in [
            (json!({ "project": "p", "databse": "db" }), "databse"),
            (json!({ "project": "p", "collections": { "lock": "l" } }), "lock"),
            (json!({ "project": "p", "request_timeout": "soon" }), "soon"),
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
