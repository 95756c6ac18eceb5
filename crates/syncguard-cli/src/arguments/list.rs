use std::time::Duration;

use clap::Args;

use super::{Format, Store, duration};

/// Show the locks that are held
///
/// The answer is old when it arrives. A lock that is acquired or released meanwhile may be missing.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// How the keys begin [default: all keys]
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,

    /// Show the table again at this interval, until it is interrupted
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "1s", value_parser = duration::positive, conflicts_with = "json")]
    pub(crate) watch: Option<Duration>,

    #[command(flatten)]
    pub(crate) store: Store,

    #[command(flatten)]
    pub(crate) format: Format,
}
