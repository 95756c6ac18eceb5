//! A resource that is protected by a lock and checks fences.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};
use syncguard_core::{Fence, LockId};

/// The grant under which a resource is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Its fence.
    pub fence: Fence,
    /// Its id.
    pub lock_id: LockId,
}

/// The outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a write that was refused has not happened"]
pub enum WriteOutcome {
    /// The write was applied.
    Accepted,
    /// The write was not applied, because of the write under this grant.
    Rejected(Stamp),
}

/// A resource in memory. It rejects a write whose fence is lower than that of an earlier write, or
/// equal to it under another id, which happens after a store has lost its counter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    last: Option<Stamp>,
}

impl Resource {
    /// Writes under a grant, or rejects the write.
    pub fn write(&mut self, stamp: Stamp) -> WriteOutcome {
        match self.last {
            Some(last) if stamp != last && stamp.fence <= last.fence => {
                WriteOutcome::Rejected(last)
            }
            _ => {
                self.last = Some(stamp);
                WriteOutcome::Accepted
            }
        }
    }

    /// Returns the grant of the last accepted write.
    pub fn last(&self) -> Option<Stamp> {
        self.last
    }
}

/// A [`Resource`] in a file, shared by several processes.
#[derive(Debug)]
pub struct ResourceFile(File);

impl ResourceFile {
    /// Opens the file. Creates it if it does not exist.
    ///
    /// # Errors
    ///
    /// The error of opening the file.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        Ok(Self(options.read(true).write(true).create(true).truncate(false).open(path)?))
    }

    /// As [`Resource::write`], under an exclusive lock on the file.
    ///
    /// # Errors
    ///
    /// The error of locking, reading or writing the file.
    pub fn write(&mut self, stamp: Stamp) -> io::Result<WriteOutcome> {
        self.0.lock()?;
        let outcome = self.write_locked(stamp);
        self.0.unlock()?;
        outcome
    }

    fn write_locked(&mut self, stamp: Stamp) -> io::Result<WriteOutcome> {
        let mut text = String::new();
        self.0.rewind()?;
        self.0.read_to_string(&mut text)?;
        let last = if text.is_empty() { None } else { Some(serde_json::from_str(&text)?) };
        let outcome = Resource { last }.write(stamp);
        if outcome == WriteOutcome::Accepted {
            self.0.rewind()?;
            // All stamps have the same length: the previous one is overwritten to its last byte.
            self.0.write_all(&serde_json::to_vec(&stamp)?)?;
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(fence: u64) -> Stamp {
        Stamp { fence: Fence::new(fence).unwrap(), lock_id: LockId::mint().unwrap() }
    }

    #[test]
    fn a_holder_and_its_successor_may_write_repeatedly() {
        let mut resource = Resource::default();
        let (one, next) = (stamp(1), stamp(5));
        for stamp in [one, one, next, next] {
            assert_eq!(resource.write(stamp), WriteOutcome::Accepted);
            assert_eq!(resource.last(), Some(stamp));
        }
    }

    #[test]
    fn a_lower_fence_is_rejected_even_under_the_same_id() {
        let mut resource = Resource::default();
        let last = stamp(5);
        assert_eq!(resource.write(last), WriteOutcome::Accepted);
        assert_eq!(resource.write(stamp(4)), WriteOutcome::Rejected(last));
        let lower = Stamp { fence: Fence::new(4).unwrap(), ..last };
        assert_eq!(resource.write(lower), WriteOutcome::Rejected(last));
        assert_eq!(resource.last(), Some(last));
    }

    #[test]
    fn an_equal_fence_under_another_id_is_rejected() {
        let mut resource = Resource::default();
        let last = stamp(5);
        assert_eq!(resource.write(last), WriteOutcome::Accepted);
        assert_eq!(resource.write(stamp(5)), WriteOutcome::Rejected(last));
    }

    #[test]
    fn a_file_keeps_the_last_write_for_the_next_process_that_opens_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resource");
        let (one, next) = (stamp(1), stamp(900_000_000_000_000));
        let mut early = ResourceFile::open(&path).unwrap();
        assert_eq!(early.write(one).unwrap(), WriteOutcome::Accepted);
        assert_eq!(ResourceFile::open(&path).unwrap().write(next).unwrap(), WriteOutcome::Accepted);
        assert_eq!(early.write(one).unwrap(), WriteOutcome::Rejected(next));
        assert_eq!(early.write(next).unwrap(), WriteOutcome::Accepted);
    }
}
