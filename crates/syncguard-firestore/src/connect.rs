//! Opening a backend.

use std::sync::Arc;

use syncguard_core::{Error, Operation};

use crate::{FirestoreBackend, FirestoreConfig, store::Store};

impl FirestoreBackend {
    /// Takes an [address](FirestoreConfig::from_url) with the default settings. Nothing is connected to
    /// yet.
    ///
    /// # Errors
    ///
    /// As [`FirestoreConfig::from_url`] and [`FirestoreConfig::connect`].
    pub fn connect(url: &str) -> Result<Self, Error> {
        FirestoreConfig::from_url(url)?.connect()
    }
}

impl FirestoreConfig {
    /// Makes the backend. The first operation connects.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](syncguard_core::ErrorKind::InvalidArgument) for a value that breaks its rule.
    pub fn connect(self) -> Result<FirestoreBackend, Error> {
        let unsafe_settings = self.unsafe_settings;
        let resolved = self.resolved().map_err(|failure| failure.into_error(Operation::Connect));
        let (settings, layout) = resolved?;
        Ok(FirestoreBackend(Arc::new(Store::new(settings, layout, unsafe_settings))))
    }
}
