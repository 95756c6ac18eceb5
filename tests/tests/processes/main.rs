//! Several processes on one SQLite file.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod killed;
mod model;
mod opening;
mod soak;
mod stopped;
mod storm;

use std::{path::PathBuf, process};

use syncguard_core::{Fence, LockKey, Ttl};
use syncguard_testkit::contender::{Command, Contender, Renewal, Reply};
use tempfile::TempDir;

const CONTENDER: &str = env!("CARGO_BIN_EXE_contender");

/// The directory that the processes of a test share.
struct SharedDir(TempDir);

impl SharedDir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn store(&self) -> PathBuf {
        self.0.path().join("locks.db")
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.store().display())
    }

    fn resource(&self) -> PathBuf {
        self.0.path().join("resource")
    }

    fn journal(&self) -> PathBuf {
        self.0.path().join("journal")
    }

    /// Starts a process and waits until it has opened the store.
    fn contender(&self) -> Contender {
        let mut contender = start();
        assert_eq!(contender.request(&Command::Open(self.url())).unwrap(), Reply::Opened);
        contender
    }
}

fn start() -> Contender {
    Contender::start(&mut process::Command::new(CONTENDER)).unwrap()
}

fn key(text: &str) -> LockKey {
    LockKey::new(text).unwrap()
}

fn acquire(ttl: Ttl, renewal: Renewal) -> Command {
    Command::Acquire { key: key("k"), ttl, renewal }
}

/// Waits until a contender holds the lock that it was sent to acquire.
fn granted(contender: &mut Contender) -> Fence {
    match contender.receive().unwrap() {
        Reply::Granted(fence) => fence,
        reply => panic!("{reply:?}"),
    }
}

/// Makes a contender acquire the lock, and returns the fence.
fn hold(contender: &mut Contender, ttl: Ttl, renewal: Renewal) -> Fence {
    assert_eq!(contender.request(&acquire(ttl, renewal)).unwrap(), Reply::Waiting);
    granted(contender)
}
