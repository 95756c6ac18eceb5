//! Information of the kernel about processes that may not be our children.

use std::{fs, io};

use rustix::process::{Pid, Signal, kill_process};

/// The fields of `/proc/<pid>/stat` that are needed (proc(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) pid: u32,
    pub(super) parent: u32,
    /// The start time in clock ticks since boot. Together with the pid, it distinguishes a process
    /// from a later one with the same pid.
    pub(super) started: u64,
    state: char,
}

impl Stat {
    /// Looks a process up. Returns `None` if it does not exist, or if the system has no such file.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(&line)
    }

    /// Returns whether this process is still running. A zombie is not.
    pub(super) fn is_alive(&self) -> bool {
        let now = Self::of(self.pid);
        now.is_some_and(|now| now.started == self.started && !now.has_exited())
    }

    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("no such process number"))?;
        Ok(kill_process(pid, signal)?)
    }

    fn has_exited(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    fn parse(line: &str) -> Option<Self> {
        // The name is in parentheses, and may contain any character, including parentheses.
        let (head, tail) = line.rsplit_once(')')?;
        let fields: Vec<&str> = tail.split_whitespace().collect();
        Some(Self {
            pid: head.split_whitespace().next()?.parse().ok()?,
            parent: fields.get(1)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
            state: fields.first()?.chars().next()?,
        })
    }
}

/// Returns the running children of a process.
pub(super) fn children(parent: u32) -> Vec<Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Stat::of).filter(|stat| stat.parent == parent && !stat.has_exited()).collect()
}

#[cfg(test)]
mod tests {
    use super::Stat;

    #[test]
    fn a_name_with_spaces_and_parentheses_is_skipped() {
        let line = "17 (a) b (c) S 4 17 17 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 8812 99 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.pid, stat.parent, stat.started), (17, 4, 8812));
        assert!(!stat.has_exited());
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let line = "17 (a) Z 4 17 17 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 8812 99 0";
        assert!(Stat::parse(line).unwrap().has_exited());
    }
}
