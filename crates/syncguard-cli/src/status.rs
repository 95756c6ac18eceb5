//! Shows who holds a lock.

use std::slice;

use syncguard::{LockManager, backend::Counters};

use crate::{
    answer,
    arguments::{OutputFormat, Status},
    exit::Exit,
    failure::Failure,
    opening::{Wait, open},
    record,
    report::name_keys,
};

/// Prints who holds the lock.
pub(crate) async fn status(arguments: &Status) -> Result<Exit, Failure> {
    name_keys(slice::from_ref(&arguments.key));
    let backend = open(&arguments.store, Counters::FromOne, Wait::none()).await?;
    let locks = LockManager::new(backend);
    let found = locks.lookup_raw(&arguments.key.clone().into()).await?;
    answer::print(&match (arguments.format.chosen(), &found) {
        (OutputFormat::Json, found) => record::json(&arguments.key, found.as_ref()),
        (OutputFormat::Text, Some(found)) => record::text(found, locks.capabilities().grace),
        (OutputFormat::Text, None) => "free".to_owned(),
    })
}
