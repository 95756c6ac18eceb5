//! Deserialization of the configuration.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error as _};
use syncguard_core::{Error, UnsafeSettings};

use crate::RedisConfig;

/// The fields of a configuration. Each corresponds to the method of the same name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    url: String,
    prefix: Option<String>,
    #[serde(default, with = "humantime_serde")]
    grace: Option<Duration>,
    #[serde(default, with = "humantime_serde")]
    command_timeout: Option<Duration>,
    #[serde(default, with = "humantime_serde")]
    connect_timeout: Option<Duration>,
    wait_for_replicas: Option<Replicas>,
    #[serde(default)]
    seed_new_counters: bool,
    #[serde(default, with = "humantime_serde")]
    expire_counters: Option<Duration>,
    #[serde(default)]
    unsafe_settings: UnsafeSettings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replicas {
    count: u32,
    #[serde(with = "humantime_serde")]
    timeout: Duration,
}

impl<'de> Deserialize<'de> for RedisConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(Fields::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl TryFrom<Fields> for RedisConfig {
    type Error = Error;

    fn try_from(fields: Fields) -> Result<Self, Error> {
        let mut config = Self::from_url(&fields.url)?.unsafe_settings(fields.unsafe_settings);
        if let Some(prefix) = fields.prefix {
            config = config.prefix(prefix);
        }
        if let Some(grace) = fields.grace {
            config = config.grace(grace);
        }
        if let Some(timeout) = fields.command_timeout {
            config = config.command_timeout(timeout);
        }
        if let Some(timeout) = fields.connect_timeout {
            config = config.connect_timeout(timeout);
        }
        if let Some(Replicas { count, timeout }) = fields.wait_for_replicas {
            config = config.wait_for_replicas(count, timeout);
        }
        if fields.seed_new_counters {
            config = config.seed_new_counters();
        }
        if let Some(unused_for) = fields.expire_counters {
            config = config.expire_counters(unused_for);
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};
    use syncguard_core::UnsafeSettings;

    use crate::RedisConfig;

    const URL: &str = "redis://u:secret@localhost:1/0";

    fn read(value: Value) -> serde_json::Result<RedisConfig> {
        serde_json::from_value(value)
    }

    fn show(config: &RedisConfig) -> String {
        let text = format!("{config:?}");
        assert!(!text.contains("secret"), "{text}");
        text
    }

    #[test]
    fn each_field_stands_for_the_method_of_its_name() {
        let config = RedisConfig::from_url(URL).unwrap();
        assert_eq!(show(&read(json!({ "url": URL })).unwrap()), show(&config));
        let all = json!({
            "url": URL, "prefix": "app:", "grace": "500ms", "command_timeout": "1s",
            "connect_timeout": "2s", "wait_for_replicas": { "count": 1, "timeout": "100ms" },
            "seed_new_counters": true, "expire_counters": "30days", "unsafe_settings": "ignore",
        });
        let config = config
            .prefix("app:")
            .grace(Duration::from_millis(500))
            .command_timeout(Duration::from_secs(1))
            .connect_timeout(Duration::from_secs(2))
            .wait_for_replicas(1, Duration::from_millis(100))
            .seed_new_counters()
            .expire_counters(Duration::from_secs(30 * 24 * 3_600))
            .unsafe_settings(UnsafeSettings::Ignore);
        assert_eq!(show(&read(all).unwrap()), show(&config));
    }

    #[test]
    fn what_is_unknown_or_cannot_be_read_is_refused_without_the_password() {
        for (bad, name) in [
            (json!({ "url": URL, "prefx": "app:" }), "prefx"),
            (json!({ "url": URL, "wait_for_replicas": { "cout": 1 } }), "cout"),
            (json!({ "url": URL, "grace": "soon" }), "soon"),
            (json!({ "url": format!("http{URL}") }), "redis://"),
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains(name) && !error.contains("secret"), "{error}");
        }
    }
}
