//! Who may read and write the files.

#[cfg(unix)]
use std::fs;
use std::path::Path;

use syncguard_core::backend::Finding;

/// Creates the file at `path`, accessible only to its owner, if it is missing. SQLite creates its
/// side files with the same mode.
///
/// Failures are left to SQLite to report.
#[cfg(unix)]
pub(crate) fn create_private(path: &Path) {
    use std::{
        fs::OpenOptions,
        os::unix::fs::OpenOptionsExt,
        sync::{Mutex, PoisonError},
    };

    /// Closing a file drops all locks that the process has on it. While a thread creates the file, no
    /// other one is past this point, so SQLite has no lock on it yet.
    static CREATING: Mutex<()> = Mutex::new(());

    let _creating = CREATING.lock().unwrap_or_else(PoisonError::into_inner);
    if fs::symlink_metadata(path).is_err() {
        let _ = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    }
}

#[cfg(not(unix))]
pub(crate) fn create_private(_: &Path) {}

/// Reports who else may read or write the database, its log or its directory.
///
/// A user who may write the files can plant triggers, take locks away and set fences back. A user
/// who may write the directory can replace the files.
#[cfg(unix)]
pub(crate) fn check(path: &Path) -> Vec<Finding> {
    let Ok(path) = fs::canonicalize(path) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.clone().into_os_string();
        file.push(suffix);
        findings
            .extend(access_of(file.as_ref()).into_iter().flat_map(|access| access.of_file(suffix)));
    }
    let directory = path.parent().and_then(access_of);
    findings.extend(directory.into_iter().flat_map(|access| access.of_directory()));
    findings
}

#[cfg(not(unix))]
pub(crate) fn check(_: &Path) -> Vec<Finding> {
    Vec::new()
}

/// What the file system allows.
#[cfg(unix)]
#[derive(Clone, Copy, Debug)]
struct Access {
    owner: u32,
    /// The permission bits, and the sticky bit.
    mode: u32,
}

#[cfg(unix)]
fn access_of(path: &Path) -> Option<Access> {
    use std::os::unix::fs::MetadataExt;

    let metadata = fs::metadata(path).ok()?;
    Some(Access { owner: metadata.uid(), mode: metadata.mode() & 0o7777 })
}

#[cfg(unix)]
impl Access {
    const STICKY: u32 = 0o1000;
    const GROUP_WRITES: u32 = 0o020;
    const OTHERS_WRITE: u32 = 0o002;
    const OTHERS_READ: u32 = 0o044;

    fn allows(self, bits: u32) -> bool {
        self.mode & bits != 0
    }

    /// The superuser may do anything anyway.
    fn belongs_to_another(self) -> bool {
        self.owner != 0 && self.owner != rustix::process::geteuid().as_raw()
    }

    fn of_file(self, suffix: &str) -> Vec<Finding> {
        let name = format!("file{suffix}");
        let mut findings = self.of_owner(&name);
        let mode = format!("{name} mode = {:04o}", self.mode);
        if self.allows(Self::OTHERS_WRITE) {
            findings.push(Finding::unsafe_setting(
                mode,
                "everyone on this host can take locks away and set fences back; chmod o-rw",
            ));
        } else if self.allows(Self::GROUP_WRITES) {
            findings.push(Finding::warning(
                mode,
                "everyone in the group can take locks away and set fences back; chmod g-rw unless \
                 the group shares the locks",
            ));
        } else if self.allows(Self::OTHERS_READ) {
            findings.push(Finding::warning(mode, "others can read keys and lock ids; chmod go-r"));
        }
        findings
    }

    fn of_directory(self) -> Vec<Finding> {
        let mut findings = self.of_owner("directory");
        let mode = format!("directory mode = {:04o}", self.mode);
        if self.allows(Self::OTHERS_WRITE) && !self.allows(Self::STICKY) {
            findings.push(Finding::unsafe_setting(
                mode,
                "everyone on this host can replace the files, which ends all locks; chmod o-w",
            ));
        } else if self.allows(Self::OTHERS_WRITE | Self::GROUP_WRITES) {
            findings.push(Finding::warning(
                mode,
                "others can put a file in the place of one that is missing; use a directory of \
                 the service's own",
            ));
        }
        findings
    }

    fn of_owner(self, name: &str) -> Vec<Finding> {
        let finding = || {
            Finding::unsafe_setting(
                format!("{name} owner = {}", self.owner),
                "another user can take locks away and set fences back; run as that user or chown",
            )
        };
        self.belongs_to_another().then(finding).into_iter().collect()
    }
}
