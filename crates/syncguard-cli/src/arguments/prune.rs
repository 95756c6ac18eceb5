use std::time::Duration;

use clap::Args;

use super::{Store, duration};

/// Delete the fence counters of keys that are no longer used
///
/// A counter stays for every key that was ever locked. Only counters that follow the time of the store
/// are deleted: those that began at 1 stay.
///
/// Use it only if all that lock in the store set `seed_new_counters` (`run --seed-new-counters`), and
/// none of them is a TypeScript client: it would begin a counter that was deleted at 1 again, and
/// repeat fences. The clock of the store must never be set back by the given time or more.
#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// How long a key must not have been locked, such as 30d; at least a day
    #[arg(long, value_name = "DURATION", value_parser = duration::retirement_age)]
    pub(crate) counters_unused_for: Duration,

    #[command(flatten)]
    pub(crate) store: Store,
}
