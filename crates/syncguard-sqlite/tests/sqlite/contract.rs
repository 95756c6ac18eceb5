//! The contract suite, with a separate file for each case.

use syncguard_core::{
    Fence, LockKey,
    contract::{Harness, Hook, Profile},
};
use syncguard_sqlite::{SqliteBackend, SqliteConfig};

use super::{Scratch, until_the_files_are_checked_again};

impl Harness for Scratch {
    type Backend = SqliteBackend;

    fn profile() -> Profile {
        Profile::in_process("sqlite")
    }

    async fn start() -> Self {
        Self::new()
    }

    async fn client(&self) -> SqliteBackend {
        self.open().await
    }

    async fn seeding_client(&self) -> Option<SqliteBackend> {
        let config = SqliteConfig::new(self.path()).seed_new_counters();
        Some(SqliteBackend::connect(config).await.unwrap())
    }

    async fn seed_fence(&self, key: &LockKey, fence: Fence) -> Hook {
        self.client().await;
        let seed = "INSERT INTO syncguard_locks (key, fence) VALUES (?, ?)";
        let number = i64::try_from(fence.number()).unwrap();
        let query = sqlx::query(seed).bind(key.as_str()).bind(number);
        query.execute(&mut self.foreign().await.0).await.unwrap();
        Hook::Done
    }

    /// Replaces the file by a copy of its bytes. What is not on disk is lost, and every client
    /// reopens the store.
    async fn restart(&self) -> Hook {
        self.foreign().await.run("PRAGMA wal_checkpoint(TRUNCATE)").await;
        let copy = self.path().with_extension("copy");
        std::fs::copy(self.path(), &copy).unwrap();
        for log in ["db-wal", "db-shm"] {
            let _ = std::fs::remove_file(self.path().with_extension(log));
        }
        std::fs::rename(copy, self.path()).unwrap();
        until_the_files_are_checked_again().await;
        Hook::Done
    }
}

syncguard_core::contract_tests!(Scratch);
