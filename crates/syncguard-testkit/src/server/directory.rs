//! Directories of servers, owned by the users that run them.

use std::{fs, os::unix::fs::DirBuilderExt, path::Path};

use tempfile::TempDir;

use super::{account::Account, error::ServerError};

/// Creates a temporary directory, which is removed on drop.
pub(super) fn temporary(name: &str, account: Option<&Account>) -> Result<TempDir, ServerError> {
    let created = tempfile::Builder::new().prefix(&format!("syncguard-{name}-")).tempdir();
    let created = created.map_err(ServerError::cannot("make a temporary directory"))?;
    chown(created.path(), account)?;
    Ok(created)
}

/// Creates a directory that is not removed. An existing one is used as it is.
pub(super) fn persistent(path: &Path, account: Option<&Account>) -> Result<(), ServerError> {
    let created = fs::create_dir_all(path);
    created.map_err(ServerError::cannot(format!("make {}", path.display())))?;
    chown(path, account)
}

/// Creates an empty directory for the data of a server.
pub(super) fn data(path: &Path, account: Option<&Account>) -> Result<(), ServerError> {
    let created = fs::DirBuilder::new().mode(0o700).create(path);
    created.map_err(ServerError::cannot(format!("make {}", path.display())))?;
    chown(path, account)
}

fn chown(path: &Path, account: Option<&Account>) -> Result<(), ServerError> {
    account.map_or(Ok(()), |account| account.chown(path))
}
