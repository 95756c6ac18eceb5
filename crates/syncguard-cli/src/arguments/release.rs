use clap::Args;
use syncguard::LockKey;

use super::Store;

/// End a lock that another holder has
///
/// The holder does not notice before its next renewal, and may work beside the next holder until then.
/// Only a resource that checks the fence is safe from that. Use it for a holder that is gone.
#[derive(Debug, Args)]
pub(crate) struct Release {
    /// What is locked
    pub(crate) key: LockKey,

    /// End the lock although another holder has it
    #[arg(long, required = true)]
    force: bool,

    /// Do not ask; required where the program cannot ask because there is no terminal
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    pub(crate) store: Store,
}

/// Whether a person must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consent {
    Given,
    Needed,
}

impl Release {
    pub(crate) fn consent(&self) -> Consent {
        if self.yes { Consent::Given } else { Consent::Needed }
    }
}
