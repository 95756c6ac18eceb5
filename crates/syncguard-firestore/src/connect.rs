//! Opening a backend.

use crate::{FirestoreConfig, error::Failure, store::Store};

/// Creates the state that the operations share. The first of them connects.
pub(crate) fn connect(config: FirestoreConfig) -> Result<Store, Failure> {
    let (counters, unsafe_settings) = (config.counters, config.unsafe_settings);
    let (settings, layout) = config.resolved()?;
    Ok(Store::new(settings, layout, counters, unsafe_settings))
}
