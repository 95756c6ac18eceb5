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

/// How long a server runs at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// Until this process ends, in whatever way.
    BoundToProcess,
    /// Unlimited: the server continues when this process ends.
    Unbounded,
}

impl Account {
    /// Chooses the user for a program: the current user, unless that is root and the program
    /// refuses to run as root. In that case, the first of `users` that exists.
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

    /// Makes this user the owner of a file or a directory.
    pub(super) fn chown(&self, path: &Path) -> Result<(), ServerError> {
        chown(path, Some(self.uid), Some(self.gid))
            .map_err(ServerError::cannot(format!("give {} away", path.display())))
    }
}

// A program looks the user up, because not every user is in /etc/passwd.
fn id(name: &str, which: &str) -> Option<u32> {
    let output = Command::new("id").args([which, name]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// Creates a command that runs `program` as the user of the account.
pub(super) fn command_as(program: &Path, account: Option<&Account>) -> Command {
    let mut command = Command::new(program);
    if let Some(Account { uid, gid }) = account {
        // The standard library also clears the supplementary groups of root.
        command.uid(*uid).gid(*gid);
    }
    // Messages are parsed, so they must be in one language.
    command.env("LC_ALL", "C");
    command
}

/// Creates a command that runs a server as the user of the account, with this lifetime.
pub(super) fn server_as(
    program: &Path,
    account: Option<&Account>,
    lifetime: Lifetime,
) -> Result<Command, Missing> {
    match (lifetime, Executable::SETPRIV.find()) {
        (Lifetime::Unbounded, _) => {
            let mut command = command_as(program, account);
            // A Ctrl-C for the starting process must not reach the server.
            command.process_group(0);
            Ok(command)
        }
        (Lifetime::BoundToProcess, Ok(setpriv)) => {
            let mut command = command_as(&setpriv, account);
            command.args(["--pdeathsig", "KILL", "--"].map(OsStr::new));
            command.arg(program);
            Ok(command)
        }
        // Only Linux has the parent death signal. On other systems servers end with their handles.
        (Lifetime::BoundToProcess, Err(missing)) if cfg!(target_os = "linux") => Err(missing),
        (Lifetime::BoundToProcess, Err(_)) => Ok(command_as(program, account)),
    }
}
