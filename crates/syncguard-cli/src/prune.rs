//! Deletes fence counters that are no longer used.

use syncguard::{LockManager, backend::Counters};

use crate::{
    answer,
    arguments::Prune,
    exit::Exit,
    failure::Failure,
    opening::{Wait, open},
};

/// Retires counters, and prints how many.
pub(crate) async fn prune(arguments: &Prune) -> Result<Exit, Failure> {
    let locks = LockManager::new(open(&arguments.store, Counters::Seeded, Wait::none()).await?);
    let retired = locks.retire_counters(arguments.counters_unused_for).await?;
    answer::print(&format!("{retired} fence counters deleted"))
}
