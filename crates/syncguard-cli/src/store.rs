//! Where the locks are kept.

use std::{env, fs::DirBuilder, os::unix::fs::DirBuilderExt, path::PathBuf};

use syncguard::{
    DynBackend, StoreConfig,
    backend::Counters,
    sqlite::{SqliteBackend, SqliteConfig},
};

use crate::{arguments::Store, failure::Failure};

/// The variable that names the store.
pub(crate) const VARIABLE: &str = "SYNCGUARD_STORE";

/// Opens the store named by `--store` or by the environment, or else the user's own.
pub(crate) async fn open(store: &Store, counters: Counters) -> Result<DynBackend, Failure> {
    let is_seeded = counters == Counters::Seeded;
    if let Some(url) = named(store)? {
        if is_path(&url) {
            return Err(Failure::StorePath(url));
        }
        let config = StoreConfig::from_url(&url)?;
        let config = if is_seeded { config.seed_new_counters() } else { config };
        return Ok(config.connect().await?);
    }
    let config = SqliteConfig::new(default_path()?);
    let config = if is_seeded { config.seed_new_counters() } else { config };
    Ok(DynBackend::new(SqliteBackend::connect(config).await?))
}

/// Returns whether `text` is the path of a file, and no URL whose password must not be repeated.
fn is_path(text: &str) -> bool {
    let looks_like_file = text.contains('/') || text.ends_with(".db") || text.ends_with(".sqlite");
    looks_like_file && !text.contains([':', '@'])
}

/// Returns the store named by `--store` or by the environment.
pub(crate) fn named(store: &Store) -> Result<Option<String>, Failure> {
    if let Some(url) = &store.url {
        return Ok(Some(url.clone()));
    }
    // An empty variable counts as not set, as is the custom. An empty --store does not: `--store
    // "$TYPO"` must not lock in another store than intended.
    let variable = env::var_os(VARIABLE).filter(|url| !url.is_empty());
    variable.map(|url| url.into_string().map_err(|_| Failure::StoreNotUtf8)).transpose()
}

/// Creates the directory of the user's own store, which other users may not read.
fn default_path() -> Result<PathBuf, Failure> {
    let path = state_home().ok_or(Failure::NoHome)?.join("syncguard");
    match DirBuilder::new().recursive(true).mode(0o700).create(&path) {
        Ok(()) => Ok(path.join("locks.db")),
        Err(source) => Err(Failure::Directory { path, source }),
    }
}

/// Finds the base directory of the user's state by the XDG Base Directory Specification 0.8, which
/// requires that a relative one is ignored.
fn state_home() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))
}
