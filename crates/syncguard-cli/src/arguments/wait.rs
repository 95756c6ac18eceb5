use std::time::Duration;

use clap::Args;
use syncguard::LockKey;

use super::{Store, duration};

/// Wait until a lock is free
///
/// It does not take the lock, so another holder may have it when the program ends: to do something
/// under the lock, use `run`.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// What may be locked
    #[arg(long, value_name = "KEY")]
    pub(crate) key: LockKey,

    /// How long to wait at most; then the exit code is 75
    #[arg(long, value_name = "DURATION", default_value = duration::FOREVER)]
    #[arg(value_parser = duration::wait)]
    pub(crate) timeout: Duration,

    #[command(flatten)]
    pub(crate) store: Store,
}
