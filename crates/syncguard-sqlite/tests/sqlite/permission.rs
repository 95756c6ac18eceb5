//! Who may read and write the files. These tests change the owner of files and the user, which
//! requires the superuser.

#![cfg(unix)]

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
};

use syncguard_core::{
    ErrorKind, UnsafeSettings,
    backend::{LockBackend, Severity},
};
use syncguard_sqlite::{SqliteBackend, SqliteConfig};

use crate::{Scratch, acquire_and_release};

const NOBODY: u32 = 65_534;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Returns whether this process may change the owner of files.
fn is_superuser(scratch: &Scratch) -> bool {
    fs::metadata(scratch.0.path()).unwrap().uid() == 0
}

async fn findings(path: &Path) -> Vec<(Severity, String)> {
    let findings =
        SqliteBackend::connect(SqliteConfig::new(path)).await.unwrap().check().await.unwrap();
    let findings = findings.into_iter().map(|found| (found.severity, found.setting.into_owned()));
    findings.filter(|(_, setting)| !setting.starts_with("file system")).collect()
}

/// Asserts that this finding comes first, and that connecting with the strict policy is refused if
/// it is unsafe.
async fn assert_finding(scratch: &Scratch, severity: Severity, setting: &str) {
    // If SQLite runs as the superuser, it changes the owner of the log to that of the database,
    // which is reported too.
    let found = findings(&scratch.path()).await;
    assert_eq!(found.first(), Some(&(severity, setting.to_owned())), "{found:?}");
    assert!(found.iter().all(|found| found.0 == severity), "{found:?}");
    let strict = SqliteConfig::new(scratch.path()).unsafe_settings(UnsafeSettings::Refuse);
    match SqliteBackend::connect(strict).await {
        Ok(_) => assert_eq!(severity, Severity::Warning, "{setting}"),
        Err(error) => {
            assert_eq!(severity, Severity::Unsafe, "{error}");
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.to_string().contains(setting), "{error}");
        }
    }
}

#[tokio::test]
async fn created_files_are_accessible_only_to_their_owner() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    acquire_and_release(&backend, "key").await;
    for name in ["locks.db", "locks.db-wal", "locks.db-shm"] {
        let mode = fs::metadata(scratch.0.path().join(name)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert_eq!(findings(&scratch.path()).await, []);
}

#[tokio::test]
async fn a_file_that_others_may_write_is_unsafe_and_one_that_they_may_read_is_reported() {
    for (mode, severity) in
        [(0o602, Severity::Unsafe), (0o620, Severity::Warning), (0o644, Severity::Warning)]
    {
        let scratch = Scratch::new();
        drop(fs::File::create(scratch.path()).unwrap());
        set_mode(&scratch.path(), mode);
        let found = findings(&scratch.path()).await;
        let expected = ["file", "file-wal", "file-shm"];
        let expected = expected.map(|name| (severity, format!("{name} mode = {mode:04o}")));
        assert_eq!(found, expected, "SQLite gives its side files the mode of the database");
    }
    let scratch = Scratch::new();
    drop(scratch.open().await);
    set_mode(&scratch.path(), 0o606);
    let backend = scratch.open().await;
    // SQLite sets the mode of an empty log.
    acquire_and_release(&backend, "key").await;
    for name in ["locks.db-wal", "locks.db-shm"] {
        set_mode(&scratch.0.path().join(name), 0o600);
    }
    assert_finding(&scratch, Severity::Unsafe, "file mode = 0606").await;
    drop(backend);
}

#[tokio::test]
async fn a_directory_that_everyone_may_write_is_unsafe_unless_it_is_sticky() {
    for (mode, severity) in
        [(0o777, Severity::Unsafe), (0o1777, Severity::Warning), (0o770, Severity::Warning)]
    {
        let scratch = Scratch::new();
        scratch.open().await;
        set_mode(scratch.0.path(), mode);
        assert_finding(&scratch, severity, &format!("directory mode = {mode:04o}")).await;
    }
}

#[tokio::test]
async fn a_directory_of_another_user_is_unsafe() {
    let scratch = Scratch::new();
    if !is_superuser(&scratch) {
        return;
    }
    scratch.open().await;
    chown(scratch.0.path(), Some(NOBODY), None).unwrap();
    assert_finding(&scratch, Severity::Unsafe, "directory owner = 65534").await;
}

#[tokio::test]
async fn a_file_of_another_user_is_unsafe_and_usable_if_unsafe_settings_are_ignored() {
    let scratch = Scratch::new();
    if !is_superuser(&scratch) {
        return;
    }
    let backend = scratch.open().await;
    assert_eq!(acquire_and_release(&backend, "key").await, 1);
    chown(scratch.path(), Some(NOBODY), None).unwrap();
    assert_finding(&scratch, Severity::Unsafe, "file owner = 65534").await;
    drop(backend);
    let lenient = SqliteConfig::new(scratch.path()).unsafe_settings(UnsafeSettings::Ignore);
    assert_eq!(
        acquire_and_release(&SqliteBackend::connect(lenient).await.unwrap(), "key").await,
        2
    );
    assert_eq!(
        acquire_and_release(
            &SqliteBackend::connect(SqliteConfig::new(scratch.path())).await.unwrap(),
            "key"
        )
        .await,
        3
    );
}

/// Runs this test again as an ordinary user, in a directory of the superuser.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_ordinary_user_is_not_warned_of_what_belongs_to_it_or_to_the_superuser() {
    use std::{os::unix::process::CommandExt, process::Command};

    const NAME: &str =
        "permission::an_ordinary_user_is_not_warned_of_what_belongs_to_it_or_to_the_superuser";
    const SUPERUSERS: &str = "SYNCGUARD_DIRECTORY_OF_THE_SUPERUSER";
    let scratch = Scratch::new();
    if is_superuser(&scratch) {
        let directory = scratch.0.path();
        set_mode(directory, 0o1777);
        // By a link of the kernel, because the user may not read the directories above.
        let mut again = Command::new("/proc/self/exe");
        again.args(["--exact", NAME]).env("TMPDIR", directory).env(SUPERUSERS, directory);
        let output = again.current_dir("/").uid(NOBODY).gid(NOBODY).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
        return;
    }
    acquire_and_release(&scratch.open().await, "key").await;
    assert_eq!(findings(&scratch.path()).await, []);
    if let Some(directory) = std::env::var_os(SUPERUSERS) {
        let found = findings(&Path::new(&directory).join("locks.db")).await;
        assert_eq!(found, [(Severity::Warning, "directory mode = 1777".to_owned())]);
    }
}
