//! Compares the public API of each published library with the list in its folder.

use std::{
    env,
    path::Path,
    process::{Command, ExitCode},
};

use crate::{
    api_list::{self, Changes},
    command::{ROOT, cargo},
    failure::Failure,
};

/// Set where this program stands in for rustdoc. Holds the path of rustdoc.
const RUSTDOC: &str = "XTASK_RUSTDOC";

/// Compares the public API of each published library with its list, `public-api.txt`.
pub(crate) fn run(changes: Changes) -> Result<(), Failure> {
    describe()?;
    Ok(api_list::compare(Path::new(ROOT), changes)?)
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
