use std::{path::PathBuf, process::Command};

use tempfile::TempDir;

use super::{
    account::{Account, command_as},
    call::call,
    directory,
    error::ServerError,
    place::Place,
};
use crate::find::Executable;

/// A new data directory, created once and copied for each server.
///
/// Its creation takes seconds, a copy a fraction of a second.
#[derive(Debug)]
pub struct Layout {
    directory: TempDir,
    account: Option<Account>,
}

impl Layout {
    /// Runs the program that creates a data directory. `arguments` is called with its path.
    pub(super) async fn create(
        program: Executable,
        account: Option<Account>,
        arguments: impl FnOnce(&str) -> Vec<String> + Send,
    ) -> Result<Self, ServerError> {
        let program = program.find()?;
        let directory = directory::temporary("layout", account.as_ref())?;
        let layout = Self { directory, account };
        let data = layout.data();
        let mut command = command_as(&program, layout.account.as_ref());
        command.args(arguments(&data.to_string_lossy())).env("TMPDIR", layout.directory.path());
        call(command).await?;
        Ok(layout)
    }

    pub(super) async fn copy_to(&self, place: &Place) -> Result<(), ServerError> {
        let mut copy = Command::new("cp");
        // With owners and modes, because servers check both.
        copy.arg("-Rp").arg(self.data()).arg(place.data_dir());
        call(copy).await.map(drop)
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }
}
