use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;
use syncguard::LockKey;

/// Show the hash that stands for a key in logs
///
/// Services log no keys, but their hashes. The messages of this program have both.
#[derive(Debug, Args)]
pub(crate) struct Hash {
    /// What is locked
    pub(crate) key: LockKey,
}

/// Print the completions of a shell
///
/// For bash: `syncguard completions bash > ~/.local/share/bash-completion/completions/syncguard`.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: Shell,
}

/// Write the manual pages into a directory
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The directory, such as /usr/local/share/man/man1
    pub(crate) directory: PathBuf,
}
