//! What the program `contender`, a process that wants locks, is told and tells: one value a line.

use std::{io, path::PathBuf, process::Command};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use syncguard_core::{Fence, LockKey, Ttl};

use crate::{history::Incarnation, process::Process};

/// What a contender is told. It answers each order before it reads the next one, and ends with its
/// standard input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Order {
    /// Open the store. Answered by [`Word::Opened`].
    Open(PathBuf),
    /// Wait for a lock. Answered by [`Word::Waiting`], and by [`Word::Granted`] once it is held.
    Acquire {
        /// Which lock.
        key: LockKey,
        /// For how long.
        ttl: Ttl,
        /// Whether to extend it in the background.
        upkeep: Upkeep,
    },
    /// Say how the lock stands. Asking it that is the first thing that is done. Answered by
    /// [`Word::Standing`].
    Report,
    /// Write to the resource, under the fence that the lock had when it was granted. Answered by
    /// [`Word::Wrote`].
    Write(PathBuf),
    /// Give the lock back. Answered by [`Word::Released`].
    Release,
    /// Take and leave locks until the end of the standard input. Answered by [`Word::Waiting`].
    Storm(Storm),
}

/// Says whether a lock is extended in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Upkeep {
    /// It is.
    Renewed,
    /// It is not.
    LeftAlone,
}

/// How to take part in a storm.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Storm {
    /// Who it is that takes part.
    pub process: Incarnation,
    /// Which locks there are to take.
    pub keys: Vec<LockKey>,
    /// For how long they are taken.
    pub ttl: Ttl,
    /// Where to record it.
    pub journal: PathBuf,
    /// Whether to lock at all.
    pub discipline: Discipline,
}

/// Says whether a process respects the locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Discipline {
    /// It does.
    Locks,
    /// It enters without asking anybody, under fences that rise by themselves. For proving that
    /// this is noticed.
    Trespasses,
}

/// What a contender tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// The store is open.
    Opened,
    /// The locks are about to be asked for.
    Waiting,
    /// The lock is held, under this fence.
    Granted(Fence),
    /// How the lock stands.
    Standing {
        /// What `is_valid` says, asked first of all.
        valid: bool,
        /// What `fence` gives, if it does.
        fence: Option<Fence>,
    },
    /// Whether the resource let itself be written.
    Wrote(Admission),
    /// The lock is given back.
    Released,
}

/// What a resource made of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Admission {
    /// It happened.
    Accepted,
    /// It did not.
    Refused,
}

/// A handle on a contender. Dropped, the process is killed.
#[derive(Debug)]
pub struct Contender(Process);

impl Contender {
    /// Starts the program.
    ///
    /// # Errors
    ///
    /// Why it could not be started.
    pub fn start(program: &str) -> io::Result<Self> {
        Process::start(&mut Command::new(program)).map(Self)
    }

    /// Gives an order, and does not wait for an answer.
    ///
    /// # Errors
    ///
    /// As [`Process::tell`].
    pub fn tell(&mut self, order: &Order) -> io::Result<()> {
        self.0.tell(&to_line(order)?)
    }

    /// Waits for the next word.
    ///
    /// # Errors
    ///
    /// As [`Process::hear`].
    pub fn hear(&mut self) -> io::Result<Word> {
        from_line(&self.0.hear()?)
    }

    /// Gives an order, and waits for the next word.
    ///
    /// # Errors
    ///
    /// As [`tell`](Self::tell) and [`hear`](Self::hear).
    pub fn ask(&mut self, order: &Order) -> io::Result<Word> {
        self.tell(order)?;
        self.hear()
    }

    /// Returns the process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.0
    }

    /// Lets it come to its end by itself.
    ///
    /// # Errors
    ///
    /// As [`Process::finish`], and where it ended with a failure.
    pub fn finish(self) -> io::Result<()> {
        let status = self.0.finish()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
    }
}

/// Writes an order or a word as a line.
///
/// # Errors
///
/// Never, for the types of this module.
pub fn to_line(value: &impl Serialize) -> io::Result<String> {
    Ok(serde_json::to_string(value)?)
}

/// Reads an order or a word from a line.
///
/// # Errors
///
/// What it is not.
pub fn from_line<T: DeserializeOwned>(line: &str) -> io::Result<T> {
    Ok(serde_json::from_str(line)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_words_are_read_as_they_were_written_one_to_a_line() {
        let order = Order::Acquire {
            key: LockKey::new("line\nbreak").unwrap(),
            ttl: Ttl::default(),
            upkeep: Upkeep::Renewed,
        };
        let line = to_line(&order).unwrap();
        assert!(!line.contains('\n'), "{line}");
        let read: Order = from_line(&line).unwrap();
        assert_eq!(format!("{read:?}"), format!("{order:?}"));
        let word = Word::Standing { valid: true, fence: Fence::new(3).ok() };
        assert_eq!(from_line::<Word>(&to_line(&word).unwrap()).unwrap(), word);
        assert!(from_line::<Word>("Opened").is_err());
    }

    #[test]
    fn who_ends_with_a_failure_did_not_finish() {
        assert!(Contender::start("false").unwrap().finish().is_err());
        assert!(Contender::start("cat").unwrap().finish().is_ok());
    }
}
