use std::{collections::BTreeMap, fmt, ops::Deref, time::Duration};

use syncguard_core::{Error, ErrorKind, LockManager, Operation, ShutdownOutcome};
use tokio::time::Instant;

use crate::Config;

/// Holds the stores of a service by name, one of which is the default.
///
/// It dereferences to the default store, so it can be used as a [`LockManager`]. [`on`](Self::on)
/// returns another store and leaves the default as it is. A registry is cheap to clone; the clones
/// share the stores.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "memory")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), syncguard::Error> {
/// use syncguard::{Registry, LockManager, memory::MemoryBackend};
///
/// let locks = Registry::new("jobs", LockManager::new(MemoryBackend::new()))
///     .with("audit", LockManager::new(MemoryBackend::new()));
///
/// let job = locks.lock("nightly-report").acquire().await?;
/// let audit = locks.on("audit")?.lock("nightly-report").acquire().await?;
/// assert!(locks.on("payments").is_err());
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "memory"))]
/// # fn main() {}
/// ```
#[derive(Clone)]
pub struct Registry {
    default: LockManager,
    default_name: String,
    stores: BTreeMap<String, LockManager>,
}

impl Registry {
    /// Creates a registry with the default store and its name.
    pub fn new(name: impl Into<String>, default: LockManager) -> Self {
        let default_name = name.into();
        let stores = BTreeMap::from([(default_name.clone(), default.clone())]);
        Self { default, default_name, stores }
    }

    /// Adds a store. It replaces the store of the same name, even the default.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, locks: LockManager) -> Self {
        let name = name.into();
        if name == self.default_name {
            self.default = locks.clone();
        }
        self.stores.insert(name, locks);
        self
    }

    /// Opens all stores of a configuration.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidArgument`](ErrorKind::InvalidArgument) if the default is not one of the
    /// stores; otherwise the reason why one of them could not be opened, and which one.
    pub async fn connect(config: &Config) -> Result<Self, Error> {
        found(&config.stores, &config.default)?;
        let mut stores = BTreeMap::new();
        for (name, driver) in &config.stores {
            let backend = driver.connect().await.map_err(|error| of_store(name, error))?;
            let mut locks = LockManager::builder(backend);
            if let Some(owner) = &config.owner {
                locks = locks.owner(owner.clone());
            }
            if let Some(timeout) = config.request_timeout {
                locks = locks.request_timeout(timeout);
            }
            stores.insert(name.clone(), locks.build());
        }
        let default = found(&stores, &config.default)?.clone();
        Ok(Self { default, default_name: config.default.clone(), stores })
    }

    /// Returns the store of this name.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidArgument`](ErrorKind::InvalidArgument), with the existing names, if no
    /// store has this name.
    pub fn on(&self, name: &str) -> Result<&LockManager, Error> {
        found(&self.stores, name)
    }

    /// Returns the names of all stores, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.stores.keys().map(String::as_str)
    }

    /// Waits until every background release is done, in all stores, for at most `timeout`.
    /// Otherwise same as [`LockManager::shutdown`].
    pub async fn shutdown(&self, timeout: Duration) -> ShutdownOutcome {
        let deadline = Instant::now().checked_add(timeout);
        let mut left = 0;
        for locks in self.stores.values() {
            let rest = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
            let timeout = deadline.map_or(timeout, rest);
            if let ShutdownOutcome::TimedOut { pending } = locks.shutdown(timeout).await {
                left += pending;
            }
        }
        match left {
            0 => ShutdownOutcome::Drained,
            pending => ShutdownOutcome::TimedOut { pending },
        }
    }
}

impl Deref for Registry {
    type Target = LockManager;

    fn deref(&self) -> &LockManager {
        &self.default
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("stores", &self.stores).finish_non_exhaustive()
    }
}

fn found<'a, T>(stores: &'a BTreeMap<String, T>, name: &str) -> Result<&'a T, Error> {
    stores.get(name).ok_or_else(|| {
        let names: Vec<_> = stores.keys().map(String::as_str).collect();
        let detail = match names.as_slice() {
            [] => format!("unknown store {name:?}; no stores are configured"),
            names => {
                format!("unknown store {name:?}; the configured stores are {}", names.join(", "))
            }
        };
        Error::new(ErrorKind::InvalidArgument)
            .with_operation(Operation::Connect)
            .with_detail(detail)
    })
}

/// Adds the name of the store to an error.
fn of_store(name: &str, error: Error) -> Error {
    Error::new(error.kind())
        .with_operation(Operation::Connect)
        .with_detail(format!("the store {name:?}"))
        .with_source(error)
        .not_applied()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Registry;
    use crate::{Config, ErrorKind, LockManager, NullBackend, ShutdownOutcome};

    fn null() -> LockManager {
        LockManager::new(NullBackend::default())
    }

    fn config(text: &str) -> Config {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn an_unknown_name_is_rejected_and_the_configured_names_are_listed() {
        let registry = Registry::new("jobs", null()).with("audit", null());
        let refused = registry.on("payments").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
        let expected = "unknown store \"payments\"; the configured stores are audit, jobs";
        assert!(refused.to_string().contains(expected), "{refused}");
        assert_eq!(registry.names().collect::<Vec<_>>(), ["audit", "jobs"]);
    }

    #[tokio::test]
    async fn a_store_that_takes_the_name_of_the_default_is_the_default() {
        let registry = Registry::new("jobs", null())
            .with("jobs", LockManager::builder(NullBackend::default()).build());
        let first = registry.lock("key").acquire().await.unwrap();
        let second = registry.on("jobs").unwrap().lock("key").acquire().await.unwrap();
        assert!(first.fence().unwrap() < second.fence().unwrap(), "they are one store");
    }

    #[tokio::test]
    async fn a_configuration_without_its_default_is_rejected() {
        for stores in ["{}", r#"{ "other": { "driver": "null" } }"#] {
            let text = format!(r#"{{ "default": "jobs", "stores": {stores} }}"#);
            let refused = Registry::connect(&config(&text)).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{refused}");
        }
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test]
    async fn a_store_that_cannot_be_opened_is_named() {
        let text = r#"{ "default": "a", "stores": {
            "a": { "driver": "null" },
            "b": { "driver": "sqlite", "path": "/nowhere/locks.db" }
        } }"#;
        let error = Registry::connect(&config(text)).await.unwrap_err();
        assert!(error.to_string().contains("the store \"b\""), "{error}");
        assert!(std::error::Error::source(&error).is_some());
    }

    #[cfg(all(feature = "sqlite", feature = "memory"))]
    #[tokio::test]
    async fn each_store_has_locks_of_its_own_and_the_default_is_used_where_none_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("locks.db");
        let text = serde_json::json!({
            "default": "jobs", "owner": "billing", "request_timeout": "3s",
            "stores": {
                "jobs": { "driver": "memory" },
                "audit": { "driver": "sqlite", "path": path },
            },
        });
        let locks = Registry::connect(&config(&text.to_string())).await.unwrap();
        let job = locks.lock("key").acquire().await.unwrap();
        assert!(!locks.on("audit").unwrap().is_locked("key").await.unwrap());
        let audit = locks.on("audit").unwrap().lock("key").acquire().await.unwrap();
        for name in ["jobs", "audit"] {
            let held = locks.on(name).unwrap().lookup("key").await.unwrap().unwrap();
            assert_eq!(held.owner.unwrap().as_str(), "billing");
        }
        job.release().await.unwrap();
        assert!(!locks.is_locked("key").await.unwrap(), "of the default store");
        drop(audit);
        assert_eq!(locks.shutdown(Duration::MAX).await, ShutdownOutcome::Drained);
        assert!(!locks.on("audit").unwrap().is_locked("key").await.unwrap());
    }
}
