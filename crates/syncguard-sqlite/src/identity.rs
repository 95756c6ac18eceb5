//! Which files a connection works on.
//!
//! A database with a write-ahead log is three files: the database, the log (`-wal`) and the index
//! of the log in shared memory (`-shm`). A process that opens the database by its path gets the
//! files that have these names then. If one of them was deleted or replaced meanwhile, two
//! processes no longer exclude each other, and neither gets an error from SQLite. Therefore the
//! files are checked before every statement, and after each one that writes, unless that was done a
//! moment ago.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use syncguard_core::backend::Effect;

use crate::error::Failure;

/// The device and the inode, which distinguish a file from another one that takes its name. The
/// inode is not used again while a connection has the file open.
pub(crate) type FileId = (u64, u64);

/// The files of a database, as the connections of this process opened them.
///
/// All connections of the process to one database share an identity, because SQLite lets them share
/// the index of the log: a connection that is opened after the log was replaced would use the new
/// log with the index of the old one. That is why the process cannot continue with such a database,
/// and why a torn identity is kept until the process ends.
#[derive(Debug)]
pub(crate) struct Identity {
    database: FileId,
    /// The log and its index, if the journal is a write-ahead log.
    side_files: Vec<(PathBuf, FileId)>,
    torn: AtomicBool,
}

/// How the database is journalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Journal {
    WriteAhead,
    /// As on a file system without shared memory. Only the database outlives a statement.
    Rollback,
}

/// The identities that connections of this process have.
static IDENTITIES: Mutex<BTreeMap<FileId, Weak<Identity>>> = Mutex::new(BTreeMap::new());

impl Identity {
    /// Refuses to open a database whose files are not in their expected state. A missing file is
    /// created.
    pub(crate) fn before_opening(path: &Path) -> Result<(), Failure> {
        if is_mount_point(path) {
            return Err(Failure::Aliased("is mounted by itself, without its directory"));
        }
        match unaliased(path)?.and_then(|database| identities().get(&database)?.upgrade()) {
            Some(identity) => identity.verify(path),
            None => Ok(()),
        }
    }

    /// Returns the identity of a database that was opened at `path`, and has been read.
    ///
    /// While it is open, SQLite leaves its files in their places.
    pub(crate) fn of_open(path: &Path, journal: Journal) -> Result<Arc<Self>, Failure> {
        let database = unaliased(path)?.ok_or(Failure::Replaced)?;
        let mut identities = identities();
        identities.retain(|_, identity| identity.strong_count() > 0);
        if let Some(identity) = identities.get(&database).and_then(Weak::upgrade) {
            drop(identities);
            identity.verify(path)?;
            return Ok(identity);
        }
        let mut side_files = Vec::new();
        if journal == Journal::WriteAhead {
            // SQLite names them after the file that symbolic links lead to.
            let path = fs::canonicalize(path).map_err(|_| Failure::Replaced)?;
            for suffix in ["-wal", "-shm"] {
                let mut side = path.clone().into_os_string();
                side.push(suffix);
                let file = stat(side.as_ref()).ok_or(Failure::Replaced)?;
                side_files.push((side.into(), file.id));
            }
        }
        let identity = Arc::new(Self { database, side_files, torn: AtomicBool::new(false) });
        identities.insert(database, Arc::downgrade(&identity));
        Ok(identity)
    }

    pub(crate) fn database(&self) -> FileId {
        self.database
    }

    /// Checks whether the files at `path` are still these. That takes a few microseconds on a local
    /// file system, so it needs no separate thread.
    ///
    /// # Errors
    ///
    /// [`Failure::Replaced`] if another database, or none, is at the path. [`Failure::Torn`], from
    /// then on forever, if the database is there and its log or the index of its log is not.
    pub(crate) fn verify(&self, path: &Path) -> Result<(), Failure> {
        if unaliased(path)? != Some(self.database) {
            return Err(Failure::Replaced);
        }
        let changed = |(path, id): &(PathBuf, FileId)| stat(path).map(|file| file.id) != Some(*id);
        if self.is_torn() || self.side_files.iter().any(changed) {
            if !self.torn.swap(true, Ordering::Relaxed) {
                tracing::error!(
                    target: "syncguard",
                    path = %path.display(),
                    "the log of the database was deleted or replaced while it was open; \
                     every lock of this process in it is lost"
                );
            }
            return Err(Failure::Torn(Effect::NotApplied));
        }
        Ok(())
    }

    pub(crate) fn is_torn(&self) -> bool {
        self.torn.load(Ordering::Relaxed)
    }
}

fn identities() -> MutexGuard<'static, BTreeMap<FileId, Weak<Identity>>> {
    IDENTITIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the file at `path`, if it exists, and refuses a file that has a second name: a process
/// that opens it by that name has another log.
fn unaliased(path: &Path) -> Result<Option<FileId>, Failure> {
    match stat(path) {
        Some(file) if file.links > 1 => Err(Failure::Aliased("has more than one hard link")),
        file => Ok(file.map(|file| file.id)),
    }
}

struct File {
    id: FileId,
    links: u64,
}

#[cfg(unix)]
impl File {
    /// A directory has a link for each directory in it.
    fn new(id: FileId, is_file: bool, links: u64) -> Self {
        Self { id, links: if is_file { links } else { 1 } }
    }
}

/// Reads the identity of a file by its path. Opening the file here and closing it again would drop
/// SQLite's locks on it, because under POSIX they belong to the process, not to the descriptor.
#[cfg(unix)]
fn stat(path: &Path) -> Option<File> {
    #[cfg(target_os = "linux")]
    match stat_without_times(path) {
        // Kernels before 4.11, and sandboxes of that time, do not know the call.
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {}
        found => return found.ok(),
    }
    use std::os::unix::fs::MetadataExt;

    let metadata = fs::metadata(path).ok()?;
    Some(File::new((metadata.dev(), metadata.ino()), metadata.is_file(), metadata.nlink()))
}

/// If the time of the last write has been read, Linux sets a later one for the next write, and each
/// flush of the log then writes its inode too. Therefore the times are not read.
#[cfg(target_os = "linux")]
fn stat_without_times(path: &Path) -> rustix::io::Result<File> {
    use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, statx};

    let wanted = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::NLINK;
    let found = statx(CWD, path, AtFlags::empty(), wanted)?;
    let device = u64::from(found.stx_dev_major) << 32 | u64::from(found.stx_dev_minor);
    let kind = FileType::from_raw_mode(found.stx_mode.into());
    Ok(File::new((device, found.stx_ino), kind.is_file(), found.stx_nlink.into()))
}

/// Elsewhere a file cannot be deleted while it is open.
#[cfg(not(unix))]
fn stat(_: &Path) -> Option<File> {
    Some(File { id: (0, 0), links: 1 })
}

/// Returns whether the file itself, not its directory, is a mount point. Its log then lies in
/// another directory than the log of processes that open the original. Kernels before 5.8 do not
/// report this.
#[cfg(target_os = "linux")]
fn is_mount_point(path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

    statx(CWD, path, AtFlags::empty(), StatxFlags::INO)
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(not(target_os = "linux"))]
fn is_mount_point(_: &Path) -> bool {
    false
}

/// The databases that a backend has worked on, one after the other.
#[derive(Debug, Default)]
pub(crate) struct DatabaseEpochs(Mutex<DatabaseEpoch>);

/// The database that a backend works on now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DatabaseEpoch {
    database: Option<FileId>,
    /// When the backend switched to it, in Unix milliseconds of the host, whose clock SQLite grants
    /// by.
    pub(crate) since_ms: i64,
}

impl Default for DatabaseEpoch {
    /// Everything in the first database counts.
    fn default() -> Self {
        Self { database: None, since_ms: i64::MIN }
    }
}

impl DatabaseEpochs {
    /// Records that a connection works on `database`. If another database was there before, the
    /// backend's leases end, including those that the new one, perhaps a restored copy, has on
    /// record.
    pub(crate) fn switch_to(&self, database: FileId) {
        let mut epoch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if epoch.database.replace(database).is_some_and(|before| before != database) {
            epoch.since_ms = now_ms();
        }
    }

    pub(crate) fn current(&self) -> DatabaseEpoch {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{fs, path::Path};

    use super::{Identity, Journal};
    use crate::error::Failure;

    #[test]
    fn a_missing_log_is_detected_on_opening_and_never_trusted_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("locks.db");
        let [log, away] = ["locks.db-wal", "away"].map(|name| directory.path().join(name));
        for file in [&path, &log, &directory.path().join("locks.db-shm")] {
            fs::write(file, "").unwrap();
        }
        let identity = Identity::of_open(&path, Journal::WriteAhead).unwrap();
        assert!(Identity::of_open(&path, Journal::WriteAhead).is_ok());
        fs::rename(&log, &away).unwrap();
        let reopened = Identity::of_open(&path, Journal::WriteAhead);
        assert!(matches!(reopened, Err(Failure::Torn(_))), "{reopened:?}");
        fs::rename(&away, &log).unwrap();
        assert!(matches!(identity.verify(&path), Err(Failure::Torn(_))), "others have gone on");
    }

    #[test]
    fn a_file_that_is_a_mount_point_is_refused() {
        let refused = Identity::before_opening(Path::new("/proc"));
        assert!(matches!(refused, Err(Failure::Aliased(reason)) if reason.contains("mounted")));
        assert!(Identity::before_opening(Path::new("/proc/self/status")).is_ok());
    }
}
