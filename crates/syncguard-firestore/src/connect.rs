//! Opening a backend.

use crate::{FirestoreConfig, error::Failure, store::Store};

/// Creates the state that the operations share. The first of them connects.
pub(crate) fn connect(config: FirestoreConfig) -> Result<Store, Failure> {
    let unsafe_settings = config.unsafe_settings;
    let (settings, layout) = config.resolved()?;
    Ok(Store::new(settings, layout, unsafe_settings))
}
