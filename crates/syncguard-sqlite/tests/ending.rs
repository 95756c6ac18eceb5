//! Counts the threads of a backend, in a process that has no other backend.

#![cfg(all(test, target_os = "linux"))]

use std::{fs, time::Duration};

use syncguard_core::{
    LockId, LockKey, Ttl,
    backend::{AcquireRequest, LockBackend, LockRef},
};
use syncguard_sqlite::{SqliteBackend, SqliteConfig};
use tokio::{task::yield_now, time::timeout};

/// Returns the names of the threads of this process that belong to a backend or to its driver. The
/// kernel keeps 15 characters.
fn threads() -> Vec<String> {
    let names = fs::read_dir("/proc/self/task").into_iter().flatten();
    let names = names.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    let ours = |name: &String| name.starts_with("syncguard-") || name.starts_with("sqlx-sqlite");
    names.filter(ours).collect()
}

#[tokio::test(flavor = "current_thread")]
async fn dropping_the_last_handle_of_a_backend_ends_its_threads() {
    let directory = tempfile::tempdir().unwrap();
    let backend =
        SqliteBackend::connect(SqliteConfig::new(directory.path().join("locks.db"))).await.unwrap();
    let key = LockKey::new("key").unwrap();
    let id = LockId::mint().unwrap();
    let request = AcquireRequest::new(key.clone(), id, Ttl::default());
    let _ = backend.acquire(&request).await.unwrap();
    let other = backend.clone();
    // The watcher of a dropped waiter must end.
    let wait = Duration::from_millis(50);
    assert!(timeout(wait, backend.released(&key)).await.is_err());
    drop(backend);
    let _ = other.release(&LockRef::new(id, key)).await.unwrap();
    assert_eq!(threads().len(), 4, "a worker and three connections: {:?}", threads());
    drop(other);
    let gone = async {
        while !threads().is_empty() {
            yield_now().await;
        }
    };
    let gone = timeout(Duration::from_secs(10), gone).await;
    assert!(gone.is_ok(), "left behind: {:?}", threads());
}
