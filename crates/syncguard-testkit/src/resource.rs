//! A resource that checks fences: what a lock is there to protect.

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

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a write that was refused has not happened"]
pub enum Verdict {
    /// It happened.
    Accepted,
    /// It did not, because of the write under this grant.
    Refused(Stamp),
}

/// A resource in memory. It refuses a write whose fence is lower than that of an earlier write, or
/// equal to it under another id, as after a store that lost its counter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    last: Option<Stamp>,
}

impl Resource {
    /// Writes under a grant, or refuses to.
    pub fn write(&mut self, stamp: Stamp) -> Verdict {
        match self.last {
            Some(last) if stamp != last && stamp.fence <= last.fence => Verdict::Refused(last),
            _ => {
                self.last = Some(stamp);
                Verdict::Accepted
            }
        }
    }

    /// Returns the grant of the last write that happened.
    pub fn last(&self) -> Option<Stamp> {
        self.last
    }
}

/// A [`Resource`] in a file, for several processes.
#[derive(Debug)]
pub struct ResourceFile(File);

impl ResourceFile {
    /// Opens the file, which is made where it is missing.
    ///
    /// # Errors
    ///
    /// Why it cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        Ok(Self(options.read(true).write(true).create(true).truncate(false).open(path)?))
    }

    /// As [`Resource::write`], while no other process looks.
    ///
    /// # Errors
    ///
    /// Why the file cannot be locked, read or written.
    pub fn write(&mut self, stamp: Stamp) -> io::Result<Verdict> {
        self.0.lock()?;
        let verdict = self.write_alone(stamp);
        self.0.unlock()?;
        verdict
    }

    fn write_alone(&mut self, stamp: Stamp) -> io::Result<Verdict> {
        let mut text = String::new();
        self.0.rewind()?;
        self.0.read_to_string(&mut text)?;
        let last = if text.is_empty() { None } else { Some(serde_json::from_str(&text)?) };
        let verdict = Resource { last }.write(stamp);
        if verdict == Verdict::Accepted {
            self.0.rewind()?;
            // All stamps are equally long: what was there is overwritten to the last byte.
            self.0.write_all(&serde_json::to_vec(&stamp)?)?;
        }
        Ok(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(fence: u64) -> Stamp {
        Stamp { fence: Fence::new(fence).unwrap(), lock_id: LockId::mint().unwrap() }
    }

    #[test]
    fn a_holder_may_write_again_and_so_may_the_next_one() {
        let mut resource = Resource::default();
        let (one, next) = (stamp(1), stamp(5));
        for stamp in [one, one, next, next] {
            assert_eq!(resource.write(stamp), Verdict::Accepted);
            assert_eq!(resource.last(), Some(stamp));
        }
    }

    #[test]
    fn a_lower_fence_is_refused_even_under_the_same_id() {
        let mut resource = Resource::default();
        let last = stamp(5);
        assert_eq!(resource.write(last), Verdict::Accepted);
        assert_eq!(resource.write(stamp(4)), Verdict::Refused(last));
        let lower = Stamp { fence: Fence::new(4).unwrap(), ..last };
        assert_eq!(resource.write(lower), Verdict::Refused(last));
        assert_eq!(resource.last(), Some(last));
    }

    #[test]
    fn an_equal_fence_under_another_id_is_refused() {
        let mut resource = Resource::default();
        let last = stamp(5);
        assert_eq!(resource.write(last), Verdict::Accepted);
        assert_eq!(resource.write(stamp(5)), Verdict::Refused(last));
    }

    #[test]
    fn a_file_remembers_for_whoever_opens_it_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resource");
        let (one, next) = (stamp(1), stamp(900_000_000_000_000));
        let mut early = ResourceFile::open(&path).unwrap();
        assert_eq!(early.write(one).unwrap(), Verdict::Accepted);
        assert_eq!(ResourceFile::open(&path).unwrap().write(next).unwrap(), Verdict::Accepted);
        assert_eq!(early.write(one).unwrap(), Verdict::Refused(next));
        assert_eq!(early.write(next).unwrap(), Verdict::Accepted);
    }
}
