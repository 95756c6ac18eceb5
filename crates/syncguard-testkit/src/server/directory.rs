//! Directories of servers, in the hands of the users that run them.

use std::{fs, os::unix::fs::DirBuilderExt, path::Path};

use tempfile::TempDir;

use super::{account::Account, error::ServerError};

/// Makes a temporary directory, removed on drop.
pub(super) fn temporary(name: &str, account: Option<&Account>) -> Result<TempDir, ServerError> {
    let made = tempfile::Builder::new().prefix(&format!("syncguard-{name}-")).tempdir();
    let made = made.map_err(ServerError::cannot("make a temporary directory"))?;
    hand_over(made.path(), account)?;
    Ok(made)
}

/// Makes a directory that stays. One that is there already is taken as it is.
pub(super) fn lasting(path: &Path, account: Option<&Account>) -> Result<(), ServerError> {
    let made = fs::create_dir_all(path);
    made.map_err(ServerError::cannot(format!("make {}", path.display())))?;
    hand_over(path, account)
}

/// Makes an empty directory for the data of a server.
pub(super) fn for_data(path: &Path, account: Option<&Account>) -> Result<(), ServerError> {
    let made = fs::DirBuilder::new().mode(0o700).create(path);
    made.map_err(ServerError::cannot(format!("make {}", path.display())))?;
    hand_over(path, account)
}

fn hand_over(path: &Path, account: Option<&Account>) -> Result<(), ServerError> {
    account.map_or(Ok(()), |account| account.own(path))
}
