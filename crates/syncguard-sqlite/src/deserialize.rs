//! Deserialization of the configuration.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer};
use syncguard_core::UnsafeSettings;

use crate::SqliteConfig;

/// The fields of a configuration. Each corresponds to the method of the same name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    path: PathBuf,
    #[serde(default, with = "humantime_serde")]
    busy_timeout: Option<Duration>,
    #[serde(default)]
    existing_only: bool,
    #[serde(default)]
    seed_new_counters: bool,
    #[serde(default)]
    unsafe_settings: UnsafeSettings,
}

impl<'de> Deserialize<'de> for SqliteConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Fields::deserialize(deserializer).map(Self::from)
    }
}

impl From<Fields> for SqliteConfig {
    fn from(fields: Fields) -> Self {
        let config = Self::new(fields.path).unsafe_settings(fields.unsafe_settings);
        let config = match fields.busy_timeout {
            Some(timeout) => config.busy_timeout(timeout),
            None => config,
        };
        let config = if fields.existing_only { config.existing_only() } else { config };
        if fields.seed_new_counters { config.seed_new_counters() } else { config }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};
    use syncguard_core::UnsafeSettings;

    use crate::SqliteConfig;

    fn read(value: Value) -> serde_json::Result<SqliteConfig> {
        serde_json::from_value(value)
    }

    #[test]
    fn each_field_stands_for_the_method_of_its_name() {
        assert_eq!(read(json!({ "path": "a.db" })).unwrap(), SqliteConfig::new("a.db"));
        let all = json!({
            "path": "a.db", "busy_timeout": "1s", "existing_only": true, "seed_new_counters": true,
            "unsafe_settings": "ignore",
        });
        let config = SqliteConfig::new("a.db")
            .busy_timeout(Duration::from_secs(1))
            .existing_only()
            .seed_new_counters()
            .unsafe_settings(UnsafeSettings::Ignore);
        assert_eq!(read(all).unwrap(), config);
    }

    #[test]
    fn an_unknown_field_and_text_that_is_not_a_duration_are_refused() {
        let error = read(json!({ "path": "a.db", "pth": "b.db" })).unwrap_err().to_string();
        assert!(error.contains("pth"), "{error}");
        assert!(read(json!({ "path": "a.db", "busy_timeout": "soon" })).is_err());
    }
}
