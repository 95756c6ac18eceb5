//! Opening a backend.

use std::sync::Arc;

use syncguard_core::{Error, Operation};

use crate::{FirestoreBackend, FirestoreConfig, store::Store};

impl FirestoreBackend {
    /// Creates a backend for an [address](FirestoreConfig::from_url) with the default settings.
    /// This does not connect yet.
    ///
    /// # Errors
    ///
    /// Same as [`FirestoreConfig::from_url`] and [`FirestoreConfig::connect`].
    pub fn connect(url: &str) -> Result<Self, Error> {
        FirestoreConfig::from_url(url)?.connect()
    }
}

impl FirestoreConfig {
    /// Creates the backend. The first operation connects.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidArgument`](syncguard_core::ErrorKind::InvalidArgument) if a value breaks
    /// its rule.
    pub fn connect(self) -> Result<FirestoreBackend, Error> {
        let unsafe_settings = self.unsafe_settings;
        let resolved = self.resolved().map_err(|failure| failure.into_error(Operation::Connect));
        let (settings, layout) = resolved?;
        Ok(FirestoreBackend(Arc::new(Store::new(settings, layout, unsafe_settings))))
    }
}
