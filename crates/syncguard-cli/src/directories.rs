//! The user's directories, by the XDG Base Directory Specification 0.8.

use std::{env, path::PathBuf};

/// Returns the directory that `variable` names, or else `fallback` in the home directory. The
/// specification requires that a relative one is ignored.
pub(crate) fn of_user(variable: &str, fallback: &str) -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable).or_else(|| Some(absolute("HOME")?.join(fallback)))
}
