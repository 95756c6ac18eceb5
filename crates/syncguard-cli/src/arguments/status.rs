use clap::Args;
use syncguard::LockKey;

use super::{Format, Store};

/// Show who holds a lock
///
/// The answer is old when it arrives: to do something only if the lock is free, use
/// `run --no-wait`. A lock counts as held for one second after its remaining time has elapsed. The
/// exit code is 0 whether or not the lock is held.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// What may be locked
    #[arg(long, value_name = "KEY")]
    pub(crate) key: LockKey,

    #[command(flatten)]
    pub(crate) store: Store,

    #[command(flatten)]
    pub(crate) format: Format,
}
