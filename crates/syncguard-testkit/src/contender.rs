//! The protocol of the program `contender`, a process that acquires locks on command: one value per
//! line.

use std::{io, path::PathBuf, process, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use syncguard_core::{Fence, LockKey, Ttl, backend::Mode};

use crate::{
    history::{Client, Incarnation},
    process::Process,
};

/// A command to a contender, which replies to each command before it reads the next one, and exits
/// at the end of its standard input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Open the store that a URL names. The reply is [`Reply::Opened`].
    Open(String),
    /// Wait for a lock. The reply is [`Reply::Waiting`], followed by [`Reply::Granted`] once the
    /// lock is held.
    Acquire {
        /// The key to lock.
        key: LockKey,
        /// The ttl of the lock.
        ttl: Ttl,
        /// Whether to renew the lock in the background.
        renewal: Renewal,
    },
    /// Report the status of the lock. The contender reads the status before it does anything else.
    /// The reply is [`Reply::Status`].
    Report,
    /// Write to the resource, under the fence that the lock had when it was granted. The reply is
    /// [`Reply::Written`].
    Write(PathBuf),
    /// Release the lock. The reply is [`Reply::Released`].
    Release,
    /// Acquire and release locks until the end of the standard input. The reply is
    /// [`Reply::Waiting`].
    Storm(Storm),
}

/// Whether a lock is renewed in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Renewal {
    /// The lock is renewed.
    Automatic,
    /// The lock is not renewed.
    Disabled,
}

/// How a process takes part in a storm.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Storm {
    /// The process that takes part.
    pub process: Incarnation,
    /// How it acquires locks.
    pub client: Client,
    /// The keys to lock.
    pub keys: Vec<LockKey>,
    /// The keys that all processes begin to wait for at the same instants, the multiples of
    /// `convoy_period` of the boot clock, and at no other time.
    pub convoy_keys: Vec<LockKey>,
    /// The time from one such instant to the next.
    pub convoy_period: Duration,
    /// The ttl of the locks of these keys.
    pub convoy_ttl: Ttl,
    /// The modes in which to lock them.
    pub modes: Vec<Mode>,
    /// The number of locks to wait for or to hold at the same time.
    pub tasks: u32,
    /// The ttl of each lock.
    pub ttl: Ttl,
    /// The journal in which the holds are recorded.
    pub journal: PathBuf,
}

/// A reply of a contender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The store is open.
    Opened,
    /// The contender is about to request the lock.
    Waiting,
    /// The lock is held, under this fence.
    Granted(Fence),
    /// The status of the lock.
    Status {
        /// What `is_valid` returned, which was called before anything else.
        valid: bool,
        /// What `fence` returned, `None` for an error.
        fence: Option<Fence>,
    },
    /// Whether the resource accepted the write.
    Written(WriteResult),
    /// The lock is released.
    Released,
}

/// How a resource answered a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteResult {
    /// The write was applied.
    Accepted,
    /// The write was not applied.
    Rejected,
}

/// A handle on a contender. Dropping it kills the process.
#[derive(Debug)]
pub struct Contender(Process);

impl Contender {
    /// Starts the program.
    ///
    /// # Errors
    ///
    /// The error of starting the process.
    pub fn start(program: &mut process::Command) -> io::Result<Self> {
        Process::start(program).map(Self)
    }

    /// Sends a command without waiting for a reply.
    ///
    /// # Errors
    ///
    /// As [`Process::write_line`].
    pub fn send(&mut self, command: &Command) -> io::Result<()> {
        self.0.write_line(&to_line(command)?)
    }

    /// Waits for the next reply.
    ///
    /// # Errors
    ///
    /// As [`Process::read_line`].
    pub fn receive(&mut self) -> io::Result<Reply> {
        from_line(&self.0.read_line()?)
    }

    /// Sends a command and waits for the next reply.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send) and [`receive`](Self::receive).
    pub fn request(&mut self, command: &Command) -> io::Result<Reply> {
        self.send(command)?;
        self.receive()
    }

    /// Returns the process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.0
    }

    /// Closes the standard input and waits until the process exits.
    ///
    /// # Errors
    ///
    /// As [`Process::finish`], and if the process exits with a failure.
    pub fn finish(self) -> io::Result<()> {
        let status = self.0.finish()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
    }
}

/// Serializes a command or a reply as a line.
///
/// # Errors
///
/// Never, for the types of this module.
pub fn to_line(value: &impl Serialize) -> io::Result<String> {
    Ok(serde_json::to_string(value)?)
}

/// Parses a command or a reply from a line.
///
/// # Errors
///
/// If the line is not a `T`.
pub fn from_line<T: DeserializeOwned>(line: &str) -> io::Result<T> {
    Ok(serde_json::from_str(line)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_replies_round_trip_one_per_line() {
        let command = Command::Acquire {
            key: LockKey::new("line\nbreak").unwrap(),
            ttl: Ttl::default(),
            renewal: Renewal::Automatic,
        };
        let line = to_line(&command).unwrap();
        assert!(!line.contains('\n'), "{line}");
        let read: Command = from_line(&line).unwrap();
        assert_eq!(format!("{read:?}"), format!("{command:?}"));
        let reply = Reply::Status { valid: true, fence: Fence::new(3).ok() };
        assert_eq!(from_line::<Reply>(&to_line(&reply).unwrap()).unwrap(), reply);
        assert!(from_line::<Reply>("Opened").is_err());
    }

    #[test]
    fn finish_reports_a_process_that_exits_with_a_failure() {
        let start = |program| Contender::start(&mut process::Command::new(program)).unwrap();
        assert!(start("false").finish().is_err());
        assert!(start("cat").finish().is_ok());
    }
}
