//! Checks for settings that would break a guarantee.

use sqlx::Row;
use syncguard_core::backend::Finding;

use crate::{
    connection::SharedConnection, error::Failure, permission, statement::Statement, store::Store,
    worker::Ticket,
};

/// The value of `PRAGMA synchronous` from which on a commit survives a power failure.
const FULL: i64 = 2;

/// Checks the journal, the syncing, the file system, and who may write the files.
pub(crate) async fn check(store: &Store, ticket: &Ticket) -> Result<Vec<Finding>, Failure> {
    let journal = journal_mode(&store.writer, ticket).await?;
    let synchronous = synchronous(&store.writer, ticket).await?;
    let file_system = file_system(&store.path);
    let access = permission::check(&store.path);
    Ok([journal, synchronous, file_system].into_iter().flatten().chain(access).collect())
}

async fn journal_mode(
    writer: &SharedConnection,
    ticket: &Ticket,
) -> Result<Option<Finding>, Failure> {
    let row =
        writer.row(Statement::new(include_str!("sql/check_journal_mode.sql")), ticket).await?;
    let mode: Option<String> = row.and_then(|row| row.try_get(0).ok());
    let mode = mode.ok_or(Failure::Unreadable("journal mode"))?;
    Ok((mode != "wal").then(|| {
        Finding::warning(
            format!("journal_mode = {mode}"),
            "readers and writers stop each other, so operations fail as busy; use a file \
                      system with shared memory, and no other program that changes the mode",
        )
    }))
}

async fn synchronous(
    writer: &SharedConnection,
    ticket: &Ticket,
) -> Result<Option<Finding>, Failure> {
    let row = writer.row(Statement::new(include_str!("sql/check_synchronous.sql")), ticket).await?;
    let level: Option<i64> = row.and_then(|row| row.try_get(0).ok());
    let level = level.ok_or(Failure::Unreadable("synchronous setting"))?;
    Ok((level < FULL).then(|| {
        Finding::unsafe_setting(
            format!("synchronous = {level}"),
            "a power failure takes back grants, and with them fences",
        )
    }))
}

#[cfg(target_os = "linux")]
fn file_system(path: &std::path::Path) -> Option<Finding> {
    // By path: opening the file here and closing it again would drop SQLite's locks on it, because
    // under POSIX they belong to the process, not to the descriptor.
    let magic = rustix::fs::statfs(path).ok()?.f_type;
    // The numbers are 32 bits wide; some targets keep them in a signed word.
    classify_file_system(magic as u32)
}

#[cfg(not(target_os = "linux"))]
fn file_system(_: &std::path::Path) -> Option<Finding> {
    None
}

/// Judges a file system by its magic number, from `linux/magic.h` and `statfs(2)`.
#[cfg(target_os = "linux")]
fn classify_file_system(magic: u32) -> Option<Finding> {
    let remote = |name: &str| {
        Finding::unsafe_setting(
            format!("file system = {name}"),
            "file locks and shared memory do not reach other hosts, so two of them can \
                      hold one lock and damage the file; use a local disk",
        )
    };
    match magic {
        0x6969 => Some(remote("nfs")),
        0x517b => Some(remote("smb")),
        0xff53_4d42 => Some(remote("cifs")),
        0xfe53_4d42 => Some(remote("smb2")),
        0x0102_1997 => Some(remote("9p")),
        0x00c3_6400 => Some(remote("ceph")),
        0x5346_414f | 0x6b41_4653 => Some(remote("afs")),
        0x6573_5546 => Some(Finding::warning(
            "file system = fuse",
            "whether file locks and shared memory work, and whether other hosts see \
                          the file, depends on what is behind it; use a local disk",
        )),
        0x0102_1994 => Some(Finding::warning(
            "file system = tmpfs",
            "fences begin again at 1 after a reboot; use a disk",
        )),
        _ => None,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use syncguard_core::backend::Severity;

    use super::classify_file_system;

    #[test]
    fn remote_file_systems_are_unsafe_and_fuse_is_suspect() {
        for remote in [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42] {
            assert_eq!(
                classify_file_system(remote).map(|finding| finding.severity),
                Some(Severity::Unsafe)
            );
        }
        assert_eq!(
            classify_file_system(0x6573_5546).map(|finding| finding.severity),
            Some(Severity::Warning)
        );
        assert_eq!(classify_file_system(0xef53), None, "ext4");
    }
}
