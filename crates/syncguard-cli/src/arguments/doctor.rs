use clap::Args;

use super::Store;

/// Check whether locks work in a store, and are safe there
///
/// Opens the store, reads its settings, measures the round trip and the difference of the clocks, and
/// takes a lock on the key "syncguard-doctor" through two connections, with each operation that this
/// program uses. Each line begins with ok, unknown (it was not allowed to look), warning, unsafe or
/// failed.
#[derive(Debug, Args)]
#[command(after_help = DOCTOR_EXIT_CODES)]
pub(crate) struct Doctor {
    /// Exit with 78 for warnings, and for what could not be looked at, too
    #[arg(long)]
    pub(crate) strict: bool,

    #[command(flatten)]
    pub(crate) store: Store,
}

const DOCTOR_EXIT_CODES: &str = "\
Exit codes:
  0    locks work in the store
  69   they do not, or the store cannot be used
  78   they work, but a setting makes them unsafe";
