//! Which clients hold which keys: files of clients in two languages, and a check of them.
//!
//! A hold is a file `KEY~MODE~FENCE~UNTIL`, from a time after the grant to a time before the
//! release. It counts until `UNTIL`, the end of the grant with its grace period, in Unix
//! milliseconds. A client creates its file, and then looks for those of others. So of two that hold
//! a key at the same time, at least one finds the other. See `storm.mjs` for the other language.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    fs::{File, OpenOptions, read_dir, read_to_string, remove_file, rename},
    io::Write,
    path::{Path, PathBuf},
};

use syncguard_core::{
    Fence, Timestamp,
    backend::{Capabilities, Grant, Mode},
};
use tempfile::TempDir;

use crate::raw::now_ms;

/// The files of a storm.
pub(crate) struct Holds(TempDir);

/// A hold of this process. One that is dropped without [`leave`](Self::leave) was left to expire.
pub(crate) struct Hold<'a> {
    holds: &'a Holds,
    key: String,
    mode: Mode,
    fence: Fence,
    until: Timestamp,
}

impl Holds {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn directory(&self) -> &Path {
        self.0.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    fn append(&self, name: &str, line: impl Display) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.path(name)).unwrap();
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Tells all clients to stop.
    pub(crate) fn stop(&self) {
        File::create(self.path("stop")).unwrap();
    }

    pub(crate) fn continues(&self) -> bool {
        !self.path("stop").exists()
    }

    /// Begins a hold, and records whom it finds there.
    pub(crate) fn enter(&self, who: &str, key: &str, mode: Mode, grant: Grant) -> Hold<'_> {
        let until = grant.expires_at.later_by(Capabilities::GRACE);
        let hold = Hold { holds: self, key: key.to_owned(), mode, fence: grant.fence, until };
        File::create(hold.path()).unwrap();
        let others = hold.others();
        if !hold.is_over() {
            if others.len() >= places(mode) || others.iter().any(|other| !hold.admits(other)) {
                self.flaw(format!("{who} in {} is beside {others:?}", hold.name()));
            }
            self.append("fences", format!("{key}~{mode}~{}~{who}", grant.fence));
        }
        hold
    }

    /// Records a violation of what a lock guarantees.
    pub(crate) fn flaw(&self, text: impl Display) {
        self.append("flaws", text);
    }

    /// Returns the violations that were recorded, and those of the order of the fences.
    pub(crate) fn flaws(&self) -> Vec<String> {
        let mut flaws = self.lines("flaws");
        flaws.extend(fence_flaws(&self.lines("fences")));
        flaws
    }

    /// Counts the grants of the clients of one kind.
    pub(crate) fn grants(&self, who: &str) -> usize {
        self.lines("fences").iter().filter(|line| line.rsplit('~').next() == Some(who)).count()
    }
}

impl Hold<'_> {
    pub(crate) fn name(&self) -> String {
        let Self { key, mode, fence, until, .. } = self;
        format!("{key}~{mode}~{fence}~{}", until.unix_millis())
    }

    fn path(&self) -> PathBuf {
        self.holds.path(&self.name())
    }

    /// Returns whether the grant has ended, so that others may hold the key.
    pub(crate) fn is_over(&self) -> bool {
        self.until.unix_millis() <= now_ms()
    }

    /// Returns the mode and the fence of each other hold of the key that counts.
    fn others(&self) -> BTreeSet<(String, String)> {
        let now = now_ms();
        let names = read_dir(self.holds.directory())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let other = |name: String| match name.split('~').collect::<Vec<_>>()[..] {
            [key, mode, fence, until] => {
                let counts = key == self.key
                    && fence != self.fence.to_string()
                    && until.parse::<i64>().unwrap() > now;
                counts.then(|| (mode.to_owned(), fence.to_owned()))
            }
            _ => None,
        };
        names.filter_map(other).collect()
    }

    fn admits(&self, (mode, _): &(String, String)) -> bool {
        *mode == self.mode.to_string()
    }

    /// Sets the end of the grant.
    pub(crate) fn extend(&mut self, expires_at: Timestamp) {
        let before = self.path();
        self.until = expires_at.later_by(Capabilities::GRACE);
        rename(before, self.path()).unwrap();
    }

    pub(crate) fn leave(&self) {
        remove_file(self.path()).unwrap();
    }
}

/// Returns how many may hold a key in a mode at once.
fn places(mode: Mode) -> usize {
    match mode {
        Mode::Exclusive => 1,
        Mode::Shared { permits } => permits.map_or(usize::MAX, |permits| permits.get() as usize),
    }
}

/// Compares each fence of a key with those that were recorded before: a writer's with all of them,
/// a reader's with those of writers. No fence is that of two grants.
fn fence_flaws(lines: &[String]) -> Vec<String> {
    let (mut flaws, mut seen, mut highest) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
    for line in lines {
        let [key, mode, fence, _] = line.split('~').collect::<Vec<_>>()[..] else {
            flaws.push(format!("{line:?} is not a grant"));
            continue;
        };
        let is_writer = mode == Mode::Exclusive.to_string();
        let (of_all, of_writers) = highest.entry(key).or_insert(("", ""));
        let before = if is_writer { *of_all } else { *of_writers };
        if fence <= before || !seen.insert((key, fence)) {
            flaws.push(format!("after {before:?} of {key:?}, {line:?}"));
        }
        *of_all = fence.max(*of_all);
        if is_writer {
            *of_writers = fence.max(*of_writers);
        }
    }
    flaws
}
