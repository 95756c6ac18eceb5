use clap::Args;
use syncguard::LockKey;

use super::Work;
use crate::exit::EXIT_CODES;

/// Run a command on one of several hosts at a time, and on another if that fails
///
/// Waits for the lock without a limit and runs the command under it, as `run` does. If the lock is lost
/// while the command runs, the command is ended, and after a pause of two seconds syncguard waits for
/// the lock again. It ends when the command ends by itself. Start it on each host.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Leader {
    /// What to lead: any text of up to 512 bytes
    #[arg(long, value_name = "KEY")]
    pub(crate) key: LockKey,

    #[command(flatten)]
    pub(crate) work: Work,
}
