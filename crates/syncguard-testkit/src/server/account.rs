use std::{
    ffi::OsStr,
    os::unix::{fs::chown, process::CommandExt},
    path::Path,
    process::Command,
};

use rustix::process::geteuid;

use super::error::ServerError;
use crate::find::{Executable, Missing};

/// The user that runs a server which refuses to run as root.
#[derive(Clone, Debug)]
pub(super) struct Account {
    uid: u32,
    gid: u32,
}

/// What ends a server, at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// The end of this process, in whatever way.
    OfThisProcess,
    /// Its own: it goes on when this process ends.
    Unbounded,
}

impl Account {
    /// Chooses the user for a program: nobody else, unless this is root and the program minds. Then
    /// it is the first of `users` that exists.
    pub(super) fn of(
        program: Executable,
        users: &'static [&'static str],
    ) -> Result<Option<Self>, ServerError> {
        if users.is_empty() || !geteuid().is_root() {
            return Ok(None);
        }
        let account = users.iter().find_map(|name| Self::named(name));
        let none = ServerError::NoUser { program: program.name(), candidates: users };
        account.map(Some).ok_or(none)
    }

    fn named(name: &str) -> Option<Self> {
        Some(Self { uid: id(name, "-u")?, gid: id(name, "-g")? })
    }

    /// Gives a file or a directory to this user.
    pub(super) fn own(&self, path: &Path) -> Result<(), ServerError> {
        chown(path, Some(self.uid), Some(self.gid))
            .map_err(ServerError::cannot(format!("give {} away", path.display())))
    }
}

// Asked of a program, because users need not stand in /etc/passwd.
fn id(name: &str, which: &str) -> Option<u32> {
    let output = Command::new("id").args([which, name]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// Prepares a call of `program` as the account's user.
pub(super) fn command_as(program: &Path, account: Option<&Account>) -> Command {
    let mut command = Command::new(program);
    if let Some(Account { uid, gid }) = account {
        // The supplementary groups of root go as well: the standard library clears them.
        command.uid(*uid).gid(*gid);
    }
    // Messages are looked into, so they must be in one language.
    command.env("LC_ALL", "C");
    command
}

/// Prepares a call of a server as the account's user, ended as `lifetime` says.
pub(super) fn server_as(
    program: &Path,
    account: Option<&Account>,
    lifetime: Lifetime,
) -> Result<Command, Missing> {
    match (lifetime, Executable::SETPRIV.find()) {
        (Lifetime::Unbounded, _) => {
            let mut command = command_as(program, account);
            // A Ctrl-C that is meant for its starter must not reach it.
            command.process_group(0);
            Ok(command)
        }
        (Lifetime::OfThisProcess, Ok(setpriv)) => {
            let mut command = command_as(&setpriv, account);
            command.args(["--pdeathsig", "KILL", "--"].map(OsStr::new));
            command.arg(program);
            Ok(command)
        }
        // Only Linux has the parent death signal. Elsewhere servers end with their handles.
        (Lifetime::OfThisProcess, Err(missing)) if cfg!(target_os = "linux") => Err(missing),
        (Lifetime::OfThisProcess, Err(_)) => Ok(command_as(program, account)),
    }
}
