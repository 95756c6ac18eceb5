use std::{path::PathBuf, time::Duration};

use serde::Deserialize;
use syncguard_core::UnsafeSettings;

/// A SQLite file; see [`SqliteConfig`](https://docs.rs/syncguard-sqlite) for the defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SqliteStore {
    /// The path of the file.
    pub path: PathBuf,
    /// How long to wait for other processes that write.
    #[serde(default, with = "humantime_serde")]
    pub busy_timeout: Option<Duration>,
    /// Whether a missing file is an error.
    #[serde(default)]
    pub existing_only: bool,
    /// What to do about unsafe settings, such as a file that everyone may write.
    #[serde(default)]
    pub unsafe_settings: UnsafeSettings,
}

#[cfg(feature = "sqlite")]
impl SqliteStore {
    pub(super) async fn connect(&self) -> Result<crate::DynBackend, crate::Error> {
        use syncguard_sqlite::SqliteConfig;

        let config = SqliteConfig::new(&self.path).unsafe_settings(self.unsafe_settings);
        let config = super::set(config, self.busy_timeout, SqliteConfig::busy_timeout);
        let config = if self.existing_only { config.existing_only() } else { config };
        config.connect().await.map(crate::DynBackend::new)
    }
}
