//! Where the database is and how it is used.

use std::{fmt, time::Duration};

use gcloud_sdk::google_cloud_auth::credentials::Credentials;
use syncguard_core::{Error, Operation, UnsafeSettings, backend::Counters};

use crate::{
    client::{Endpoint, Settings},
    error::Failure,
    names::{Layout, is_id},
};

/// The variable that points all of Google's clients to an emulator.
const EMULATOR: &str = "FIRESTORE_EMULATOR_HOST";

/// The shortest timeout: below it, a service that is not idle is taken for one that is down.
const MIN_TIMEOUT: Duration = Duration::from_millis(10);

/// The longest timeout. The tombstone of an abandoned id has to outlive every request.
const MAX_TIMEOUT: Duration = Duration::from_secs(600);

/// Configures which database keeps the locks and how it is used.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
/// use syncguard_firestore::{FirestoreBackend, FirestoreConfig};
///
/// # fn example() -> Result<(), syncguard_core::Error> {
/// let config = FirestoreConfig::new("my-project")
///     .database("billing")
///     .collections("locks", "fence_counters")
///     .request_timeout(Duration::from_secs(3));
/// let backend = FirestoreBackend::connect(config)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FirestoreConfig {
    project: String,
    database: String,
    locks: String,
    fences: String,
    emulator: Option<String>,
    credentials: Option<Credentials>,
    pub(crate) counters: Counters,
    pub(crate) unsafe_settings: UnsafeSettings,
    request_timeout: Duration,
    connect_timeout: Duration,
}

impl FirestoreConfig {
    /// The default database, which every project has from the beginning.
    pub const DEFAULT_DATABASE: &'static str = "(default)";

    /// The default collection of locks. It is the one of the TypeScript SyncGuard.
    pub const DEFAULT_LOCKS: &'static str = "locks";

    /// The default collection of fence counters. It is the one of the TypeScript SyncGuard.
    pub const DEFAULT_FENCES: &'static str = "fence_counters";

    /// The default request timeout: 5 seconds.
    pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

    /// The default connect timeout: 5 seconds.
    pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

    /// Creates a configuration for the project with this id.
    pub fn new(project: impl Into<String>) -> Self {
        Self {
            project: project.into(),
            database: Self::DEFAULT_DATABASE.to_owned(),
            locks: Self::DEFAULT_LOCKS.to_owned(),
            fences: Self::DEFAULT_FENCES.to_owned(),
            emulator: None,
            credentials: None,
            counters: Counters::default(),
            unsafe_settings: UnsafeSettings::default(),
            request_timeout: Self::DEFAULT_REQUEST_TIMEOUT,
            connect_timeout: Self::DEFAULT_CONNECT_TIMEOUT,
        }
    }

    /// Parses an address: `firestore://project[/database][?locks=…&fences=…]`. The last two name
    /// the collections verbatim, without escapes.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidArgument`](syncguard_core::ErrorKind::InvalidArgument) if the address does
    /// not have this form.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        let rule =
            "the address is not of the form firestore://project[/database][?locks=…&fences=…]";
        let refused =
            || Failure::Config(rule.to_owned()).into_error().with_operation(Operation::Connect);
        let rest = url.strip_prefix("firestore://").ok_or_else(refused)?;
        let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (project, database) = place.split_once('/').unwrap_or((place, ""));
        let mut config = Self::new(project);
        if !database.is_empty() {
            config.database = database.to_owned();
        }
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("locks", id)) => config.locks = id.to_owned(),
                Some(("fences", id)) => config.fences = id.to_owned(),
                _ => return Err(refused()),
            }
        }
        config
            .validated()
            .map_err(|failure| failure.into_error().with_operation(Operation::Connect))?;
        Ok(config)
    }

    /// Sets the id of the database.
    #[must_use]
    pub fn database(mut self, database: impl Into<String>) -> Self {
        self.database = database.into();
        self
    }

    /// Sets the collections of locks and of fence counters, which must differ. All clients that
    /// share locks need the same two.
    #[must_use]
    pub fn collections(mut self, locks: impl Into<String>, fences: impl Into<String>) -> Self {
        self.locks = locks.into();
        self.fences = fences.into();
        self
    }

    /// Connects to an emulator at `host:port`, without TLS and without credentials.
    ///
    /// If this is not called, the variable `FIRESTORE_EMULATOR_HOST` decides. If that is not set,
    /// the backend connects to the service.
    #[must_use]
    pub fn emulator(mut self, address: impl Into<String>) -> Self {
        self.emulator = Some(address.into());
        self
    }

    /// Sets the credentials for the service, instead of the Application Default Credentials of the
    /// environment.
    #[must_use]
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Makes the fence of each grant at least the server's Unix milliseconds. Without this, the
    /// fences of a new key start at 1.
    ///
    /// If all clients of the collections set this, and none is a TypeScript client, counters that
    /// are no longer used can be [retired](syncguard_core::LockManager::retire_counters).
    #[must_use]
    pub fn seed_new_counters(mut self) -> Self {
        self.counters = Counters::Seeded;
        self
    }

    /// Sets what happens while the local wall clock differs from the server's by 200 ms or more:
    /// grants are refused with [`Unsupported`](syncguard_core::ErrorKind::Unsupported), a warning
    /// is logged once for each change, or nothing is logged. `check` reports the difference in any
    /// case.
    ///
    /// It does not affect the locks of this backend, which judges by the server's clock alone. A
    /// TypeScript client on the same host judges by the wall clock.
    #[must_use]
    pub fn unsafe_settings(mut self, unsafe_settings: UnsafeSettings) -> Self {
        self.unsafe_settings = unsafe_settings;
        self
    }

    /// Sets the maximum duration of an operation, with all its requests and retries, connecting
    /// included.
    ///
    /// The last quarter of an acquire is reserved for a read that determines the outcome of its
    /// commit. Keep the timeout below the request timeout of the lock layer (10 s by default). More
    /// than 10 minutes is refused.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Sets the maximum duration of connecting.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Returns the driver's settings and the location of the documents, or the rule that a value
    /// breaks.
    pub(crate) fn resolved(self) -> Result<(Settings, Layout), Failure> {
        self.validated()?;
        let layout = Layout::new(&self.project, &self.database, &self.locks, &self.fences);
        let emulator = self.emulator.or_else(|| std::env::var(EMULATOR).ok());
        let emulator = emulator.filter(|address| !address.is_empty());
        let settings = Settings {
            endpoint: match emulator {
                Some(address) => Endpoint::Emulator(address),
                None => Endpoint::Service(self.credentials),
            },
            database: layout.database().to_owned(),
            locks: self.locks,
            fences: self.fences,
            request_timeout: self.request_timeout,
            connect_timeout: self.connect_timeout,
        };
        settings.validated()?;
        Ok((settings, layout))
    }

    fn validated(&self) -> Result<(), Failure> {
        for (what, name) in [("project", &self.project), ("database", &self.database)] {
            require(is_name(name), || {
                format!(
                    "the id of the {what} is {name:?}; it must be visible ASCII without a slash"
                )
            })?;
        }
        for id in [&self.locks, &self.fences] {
            require(is_id(id), || format!("{id:?} cannot be the id of a collection"))?;
        }
        require(self.locks != self.fences, || {
            format!("locks and fence counters are both in the collection {:?}", self.locks)
        })?;
        for (name, timeout) in
            [("request_timeout", self.request_timeout), ("connect_timeout", self.connect_timeout)]
        {
            require((MIN_TIMEOUT..=MAX_TIMEOUT).contains(&timeout), || {
                format!("{name} is {timeout:?}; it must be 10 ms to 10 minutes")
            })?;
        }
        Ok(())
    }
}

/// Refuses a configuration that breaks a rule.
fn require(holds: bool, rule: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::Config(rule())) }
}

/// Names become part of a header.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
}

impl fmt::Debug for FirestoreConfig {
    /// Omits the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirestoreConfig")
            .field("project", &self.project)
            .field("database", &self.database)
            .field("locks", &self.locks)
            .field("fences", &self.fences)
            .field("emulator", &self.emulator)
            .field("counters", &self.counters)
            .field("unsafe_settings", &self.unsafe_settings)
            .field("request_timeout", &self.request_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::FirestoreConfig;
    use crate::FirestoreBackend;

    fn parts(url: &str) -> [String; 4] {
        let config = FirestoreConfig::from_url(url).unwrap();
        [config.project, config.database, config.locks, config.fences]
    }

    #[test]
    fn an_address_names_the_project_the_database_and_the_collections() {
        let defaults = ["p", "(default)", "locks", "fence_counters"];
        assert_eq!(parts("firestore://p"), defaults);
        assert_eq!(parts("firestore://p/(default)?"), defaults);
        let all = parts("firestore://example.com:p/jobs?fences=b&locks=a");
        assert_eq!(all, ["example.com:p", "jobs", "a", "b"]);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            "firestore:",
            "firestore://",
            "firestore:///d",
            "http://p",
            "firestore://p/d/e",
            "firestore://p?locks",
            "firestore://p?table=a",
            "firestore://p?locks=a&fences=a",
            "firestore://p?locks=a/b",
            "firestore://p?locks=",
            "firestore://p\n",
        ] {
            assert!(FirestoreConfig::from_url(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn values_that_break_a_rule_are_refused() {
        let config = || FirestoreConfig::new("p");
        for bad in [
            FirestoreConfig::new(""),
            config().database("a/b"),
            config().collections("locks", "locks"),
            config().collections("__x__", "fences"),
            config().request_timeout(Duration::ZERO),
            config().connect_timeout(Duration::from_millis(9)),
            config().request_timeout(Duration::MAX),
            config().emulator("http://127.0.0.1:8080"),
            config().emulator("not an address"),
        ] {
            assert!(FirestoreBackend::connect(bad.clone()).is_err(), "{bad:?}");
        }
        assert!(FirestoreBackend::connect(config()).is_ok(), "nothing is connected to yet");
    }
}
