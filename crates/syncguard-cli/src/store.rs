//! Where the locks are kept.

use syncguard::{DynBackend, StoreConfig, backend::Counters};

use crate::{arguments::Store, configuration::choose, failure::Failure};

/// Opens the chosen store, or else the user's own.
pub(crate) async fn open(store: &Store, counters: Counters) -> Result<DynBackend, Failure> {
    let is_seeded = counters == Counters::Seeded;
    let Some(url) = choose(store)?.url else {
        return own(is_seeded).await;
    };
    if is_path(&url) {
        return Err(Failure::StorePath(url));
    }
    let config = StoreConfig::from_url(&url)?;
    let config = if is_seeded { config.seed_new_counters() } else { config };
    Ok(config.connect().await?)
}

/// Returns whether `text` is the path of a file, and no URL whose password must not be repeated.
fn is_path(text: &str) -> bool {
    let looks_like_file = text.contains('/') || text.ends_with(".db") || text.ends_with(".sqlite");
    looks_like_file && !text.contains([':', '@'])
}

/// Opens the user's own store, in a directory that other users may not read.
#[cfg(feature = "sqlite")]
async fn own(is_seeded: bool) -> Result<DynBackend, Failure> {
    use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt};

    use syncguard::sqlite::{SqliteBackend, SqliteConfig};

    let state = crate::directories::of_user("XDG_STATE_HOME", ".local/state");
    let path = state.ok_or(Failure::NoHome)?.join("syncguard");
    if let Err(source) = DirBuilder::new().recursive(true).mode(0o700).create(&path) {
        return Err(Failure::Directory { path, source });
    }
    let config = SqliteConfig::new(path.join("locks.db"));
    let config = if is_seeded { config.seed_new_counters() } else { config };
    Ok(DynBackend::new(SqliteBackend::connect(config).await?))
}

/// Without SQLite, the user has none.
#[cfg(not(feature = "sqlite"))]
#[expect(clippy::unused_async, reason = "with SQLite, it awaits")]
async fn own(_: bool) -> Result<DynBackend, Failure> {
    Err(Failure::NoStore)
}
