//! Several processes on one SQLite file.

mod killed;
mod opening;
mod stopped;
mod storm;

use std::{
    path::PathBuf,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use syncguard_core::{Fence, LockKey, Ttl};
use syncguard_tests::contender::{Contender, Order, Upkeep, Word};
use tempfile::TempDir;

/// Held by every test that starts processes, so that one that takes the time can be alone.
static MACHINE: RwLock<()> = RwLock::new(());

/// A directory in which processes meet.
struct Stage {
    directory: TempDir,
    _machine: Share,
}

/// Whether other tests of this program may start processes meanwhile.
enum Share {
    Some(#[expect(dead_code, reason = "held, not read")] RwLockReadGuard<'static, ()>),
    All(#[expect(dead_code, reason = "held, not read")] RwLockWriteGuard<'static, ()>),
}

impl Stage {
    fn new() -> Self {
        Self::with(Share::Some(MACHINE.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Waits until no other test of this program has processes, and keeps it like that.
    fn alone() -> Self {
        Self::with(Share::All(MACHINE.write().unwrap_or_else(PoisonError::into_inner)))
    }

    fn with(machine: Share) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), _machine: machine }
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("locks.db")
    }

    fn resource(&self) -> PathBuf {
        self.directory.path().join("resource")
    }

    fn journal(&self) -> PathBuf {
        self.directory.path().join("journal")
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
