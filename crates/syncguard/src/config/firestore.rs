use std::time::Duration;

use serde::Deserialize;
use syncguard_core::UnsafeSettings;

/// Two collections of a Firestore database. The credentials are those that Google's libraries find
/// by default.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FirestoreStore {
    /// The id of the project.
    pub project: String,
    /// The id of the database.
    #[serde(default)]
    pub database: Option<String>,
    /// The names of the two collections.
    #[serde(default)]
    pub collections: Option<FirestoreCollections>,
    /// The address of an emulator, as `host:port`.
    #[serde(default)]
    pub emulator: Option<String>,
    /// The maximum duration of a request.
    #[serde(default, with = "humantime_serde")]
    pub request_timeout: Option<Duration>,
    /// The maximum duration of connecting.
    #[serde(default, with = "humantime_serde")]
    pub connect_timeout: Option<Duration>,
    /// What to do if settings would break a guarantee.
    #[serde(default)]
    pub unsafe_settings: UnsafeSettings,
}

/// The names of two collections.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FirestoreCollections {
    /// The collection of locks.
    pub locks: String,
    /// The collection of fence counters.
    pub fences: String,
}

#[cfg(feature = "firestore")]
impl FirestoreStore {
    pub(super) fn connect(&self) -> Result<crate::DynBackend, crate::Error> {
        use super::set;
        use syncguard_firestore::FirestoreConfig;

        let config = FirestoreConfig::new(&self.project).unsafe_settings(self.unsafe_settings);
        let config = set(config, self.database.as_ref(), FirestoreConfig::database);
        let config = set(config, self.collections.as_ref(), |config, names| {
            config.collections(&names.locks, &names.fences)
        });
        let config = set(config, self.emulator.as_ref(), FirestoreConfig::emulator);
        let config = set(config, self.request_timeout, FirestoreConfig::request_timeout);
        let config = set(config, self.connect_timeout, FirestoreConfig::connect_timeout);
        config.connect().map(crate::DynBackend::new)
    }
}
