//! Several processes on one SQLite file.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod killed;
mod opening;
mod stopped;
mod storm;

use std::path::PathBuf;

use syncguard_core::{Fence, LockKey, Ttl};
use syncguard_testkit::contender::{Contender, Order, Upkeep, Word};
use tempfile::TempDir;

/// A directory in which processes meet.
struct Stage(TempDir);

impl Stage {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn store(&self) -> PathBuf {
        self.0.path().join("locks.db")
    }

    fn resource(&self) -> PathBuf {
        self.0.path().join("resource")
    }

    fn journal(&self) -> PathBuf {
        self.0.path().join("journal")
    }

    /// Starts a process that has opened the store when this returns.
    fn contender(&self) -> Contender {
        let mut contender = start();
        assert_eq!(contender.ask(&Order::Open(self.store())).unwrap(), Word::Opened);
        contender
    }
}

fn start() -> Contender {
    Contender::start(env!("CARGO_BIN_EXE_contender")).unwrap()
}

fn key(text: &str) -> LockKey {
    LockKey::new(text).unwrap()
}

fn acquire(ttl: Ttl, upkeep: Upkeep) -> Order {
    Order::Acquire { key: key("k"), ttl, upkeep }
}

/// Waits until a contender has the lock that it was told to acquire.
fn granted(contender: &mut Contender) -> Fence {
    match contender.hear().unwrap() {
        Word::Granted(fence) => fence,
        word => panic!("{word:?}"),
    }
}

/// Lets a contender acquire a lock.
fn hold(contender: &mut Contender, ttl: Ttl, upkeep: Upkeep) -> Fence {
    assert_eq!(contender.ask(&acquire(ttl, upkeep)).unwrap(), Word::Waiting);
    granted(contender)
}
