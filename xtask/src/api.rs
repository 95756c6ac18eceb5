//! Lists the public API of each published library, and compares it with the list in its folder.

use std::{
    collections::BTreeSet,
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use public_api::BuildError;
use thiserror::Error;

use crate::{
    command::{ROOT, cargo},
    failure::Failure,
};

/// Set where this program stands in for rustdoc. Holds the path of rustdoc.
const RUSTDOC: &str = "XTASK_RUSTDOC";

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
    NotListed { path: PathBuf, source: BuildError },

    #[error(
        "a public API has changed. If that is intended, run `cargo xtask api --accept`, and write the \
         change into CHANGELOG.md:\n{0}"
    )]
    Changed(String),
}

/// Compares the public API of each published library with its list, `public-api.txt`.
pub(crate) fn run(changes: Changes) -> Result<(), Failure> {
    describe()?;
    let mut differences = String::new();
    for library in published()? {
        let list = library.join("public-api.txt");
        let api = listed(&library)?;
        match changes {
            Changes::Accept => fs::write(&list, &api).map_err(in_file(&list))?,
            Changes::Refuse => {
                let old = fs::read_to_string(&list).map_err(in_file(&list))?;
                differences.extend(difference(&library, &old, &api));
            }
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(ApiError::Changed(differences).into()) }
}

/// Lets rustdoc describe the libraries in its format for programs.
///
/// That is an unstable option, which `RUSTC_BOOTSTRAP` allows on a stable toolchain. The variable is
/// set for rustdoc alone, which is why this program stands in for it: build scripts look at the
/// variable, and cargo would build most of the dependencies once more.
fn describe() -> Result<(), Failure> {
    let this = env::current_exe().map_err(Failure::Runtime)?;
    let rustdoc = env::var_os("RUSTDOC").unwrap_or_else(|| "rustdoc".into());
    cargo("doc --workspace --lib --all-features --no-deps --quiet")
        .env("RUSTDOCFLAGS", "-Z unstable-options --output-format json")
        .env("RUSTDOC", this)
        .env(RUSTDOC, rustdoc)
        .run()
}

/// Runs rustdoc if this program stands in for it.
pub(crate) fn stand_in_for_rustdoc() -> Option<ExitCode> {
    let mut rustdoc = Command::new(env::var_os(RUSTDOC)?);
    let status = rustdoc.args(env::args_os().skip(1)).env("RUSTC_BOOTSTRAP", "1").status();
    match status {
        Ok(status) if status.success() => Some(ExitCode::SUCCESS),
        Ok(_) => Some(ExitCode::FAILURE),
        Err(error) => {
            eprintln!("error: {}: {error}", rustdoc.get_program().display());
            Some(ExitCode::FAILURE)
        }
    }
}

/// Returns the folders of the published libraries, in order.
fn published() -> Result<Vec<PathBuf>, ApiError> {
    let crates = Path::new(ROOT).join("crates");
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
fn listed(library: &Path) -> Result<String, ApiError> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let name = name(library).replace('-', "_");
    let path = Path::new(ROOT).join(target).join("doc").join(name).with_extension("json");
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
        let published = published().unwrap();
        let names: Vec<_> = published.iter().map(|library| name(library)).collect();
        assert!(names.contains(&"syncguard-core".to_owned()), "{names:?}");
        assert!(!names.contains(&"syncguard-testkit".to_owned()), "{names:?}");
        assert!(published.iter().all(|library| library.join("public-api.txt").exists()));
    }
}
