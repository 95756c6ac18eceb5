//! The lists of the public API, one for each published library.

use std::{
    collections::BTreeSet,
    env, fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// What to do with the list of an API that has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Changes {
    Refuse,
    Accept,
}

impl Changes {
    pub(crate) fn from_flag(accept: bool) -> Self {
        if accept { Self::Accept } else { Self::Refuse }
    }
}

#[derive(Debug, Error)]
pub(crate) enum ApiError {
    #[error("{} could not be used: {source}", path.display())]
    File { path: PathBuf, source: io::Error },

    #[error("{} describes no API that can be listed: {source}", path.display())]
    NotListed { path: PathBuf, source: public_api::Error },

    #[error(
        "a public API has changed. If that is intended, run `cargo xtask api --accept`, and write the \
         change into CHANGELOG.md:\n{0}"
    )]
    Changed(String),
}

/// Compares the descriptions by rustdoc with the lists, `public-api.txt`. `root` is the folder of the
/// workspace.
pub(crate) fn compare(root: &Path, changes: Changes) -> Result<(), ApiError> {
    let mut differences = String::new();
    for library in published(root)? {
        let list = library.join("public-api.txt");
        let api = listed(root, &library)?;
        match changes {
            Changes::Accept => fs::write(&list, &api).map_err(in_file(&list))?,
            Changes::Refuse => {
                let old = fs::read_to_string(&list).map_err(in_file(&list))?;
                differences.extend(difference(&library, &old, &api));
            }
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(ApiError::Changed(differences)) }
}

/// Returns the folders of the published libraries, in order.
fn published(root: &Path) -> Result<Vec<PathBuf>, ApiError> {
    let crates = root.join("crates");
    let mut found = Vec::new();
    for entry in fs::read_dir(&crates).map_err(in_file(&crates))? {
        let folder = entry.map_err(in_file(&crates))?.path();
        let manifest = folder.join("Cargo.toml");
        let text = fs::read_to_string(&manifest).map_err(in_file(&manifest))?;
        if folder.join("src/lib.rs").exists() && !text.contains("publish = false") {
            found.push(folder);
        }
    }
    found.sort();
    Ok(found)
}

/// Lists the public items of a library, one on each line. Implementations of auto traits, blanket
/// implementations and derived ones are left out.
fn listed(root: &Path, library: &Path) -> Result<String, ApiError> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let name = name(library).replace('-', "_");
    let path = root.join(target).join("doc").join(name).with_extension("json");
    let api = public_api::Builder::from_rustdoc_json(&path)
        .omit_auto_trait_impls(true)
        .omit_blanket_impls(true)
        .omit_auto_derived_impls(true)
        .build();
    Ok(api.map_err(|source| ApiError::NotListed { path, source })?.to_string())
}

fn name(library: &Path) -> String {
    library.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Describes the lines that are in one list alone. Returns `None` if there are none.
fn difference(library: &Path, old: &str, new: &str) -> Option<String> {
    let (old, new): (BTreeSet<_>, BTreeSet<_>) = (old.lines().collect(), new.lines().collect());
    let removed = old.difference(&new).map(|line| format!("  - {line}\n"));
    let added = new.difference(&old).map(|line| format!("  + {line}\n"));
    let lines: String = removed.chain(added).collect();
    (!lines.is_empty()).then(|| format!("{}:\n{lines}", name(library)))
}

fn in_file(path: &Path) -> impl FnOnce(io::Error) -> ApiError {
    let path = path.to_owned();
    |source| ApiError::File { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_and_what_was_added_is_shown() {
        let library = Path::new("crates/locks");
        assert_eq!(difference(library, "pub a\npub b\n", "pub b\npub a\n"), None);
        let shown = difference(library, "pub a\npub fn b()\n", "pub a\npub fn b(u8)\n").unwrap();
        assert_eq!(shown, "locks:\n  - pub fn b()\n  + pub fn b(u8)\n");
    }

    #[test]
    fn the_published_libraries_have_a_list() {
        let published = published(Path::new(crate::command::ROOT)).unwrap();
        let names: Vec<_> = published.iter().map(|library| name(library)).collect();
        assert!(names.contains(&"syncguard-core".to_owned()), "{names:?}");
        assert!(!names.contains(&"syncguard-testkit".to_owned()), "{names:?}");
        assert!(published.iter().all(|library| library.join("public-api.txt").exists()));
    }
}
