use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{Event, History, Incarnation, Record};

/// A file to which several processes append their records.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

/// The reason why a journal cannot be read as a history.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The file cannot be read.
    #[error("the journal cannot be read")]
    Unreadable(#[from] io::Error),
    /// More lines cannot be read as a record than processes have died while writing one.
    #[error("{torn} lines of the journal are no records, but {deaths} processes died")]
    Torn {
        /// The number of lines that cannot be read as a record.
        torn: usize,
        /// The number of processes that died.
        deaths: usize,
    },
}

impl Journal {
    /// Opens the journal. Creates the file if it does not exist.
    ///
    /// # Errors
    ///
    /// The error of opening the file.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let file = OpenOptions::new().append(true).create(true).open(&path)?;
        Ok(Self { path, file })
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a whole record in a single write, so that records of several processes do not
    /// interleave.
    ///
    /// A process that is killed during the write may leave a partial line. Each record therefore
    /// begins with a line break, which separates it from such a line. It also ends with one, by which
    /// a reader distinguishes it from a record that is still being written.
    ///
    /// # Errors
    ///
    /// The error of writing the record.
    pub fn write(&self, record: &Record) -> io::Result<()> {
        let line = format!("\n{}\n", serde_json::to_string(record)?);
        (&self.file).write_all(line.as_bytes())
    }

    /// Reads the records so far. What follows the last line break is not a record yet: a process may
    /// be writing it.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or has more unreadable lines than processes have died.
    pub fn read(&self) -> Result<History, JournalError> {
        let bytes = fs::read(&self.path)?;
        let end = bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or_default();
        let lines = bytes[..end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let read: Vec<Option<Record>> =
            lines.map(|line| serde_json::from_slice(line).ok()).collect();
        let torn = read.iter().filter(|record| record.is_none()).count();
        let records: Vec<Record> = read.into_iter().flatten().collect();
        let deaths = deaths(&records);
        if torn > deaths.len() {
            return Err(JournalError::Torn { torn, deaths: deaths.len() });
        }
        Ok(History::new(records))
    }
}

fn deaths(records: &[Record]) -> Vec<Incarnation> {
    let died = |record: &&Record| record.event == Event::Died;
    records.iter().filter(died).map(|record| record.process).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use syncguard_core::{BootInstant, Fence, LockKey, backend::Mode};
    use tempfile::TempDir;

    use super::*;

    fn record(process: u32, event: Event) -> Record {
        let at = BootInstant::from_boot(Duration::new(7, 123_456_789));
        Record { process: Incarnation(process), at, event }
    }

    fn entered(process: u32) -> Record {
        let (key, fence) = (LockKey::new("a \"këy\"\n").unwrap(), Fence::new(42).unwrap());
        let until = BootInstant::from_boot(Duration::new(8, 1));
        let (mode, requested) = (Mode::SHARED, BootInstant::from_boot(Duration::new(6, 2)));
        record(process, Event::Entered { key, fence, mode, requested, until })
    }

    fn journal() -> (TempDir, Journal) {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path().join("journal")).unwrap();
        (directory, journal)
    }

    #[test]
    fn records_written_through_several_handles_are_read_back() {
        let (_directory, journal) = journal();
        journal.write(&entered(1)).unwrap();
        Journal::open(journal.path()).unwrap().write(&entered(2)).unwrap();
        assert_eq!(journal.read().unwrap(), History::new([entered(1), entered(2)]));
    }

    #[test]
    fn a_record_that_is_being_written_is_not_read_yet() {
        let (_directory, journal) = journal();
        journal.write(&entered(1)).unwrap();
        let before = fs::read(journal.path()).unwrap();
        journal.write(&entered(2)).unwrap();
        let after = fs::read(journal.path()).unwrap();
        assert!(after.starts_with(&before));
        for written in before.len()..after.len() {
            fs::write(journal.path(), &after[..written]).unwrap();
            let history = journal.read().unwrap_or_else(|error| panic!("{written}: {error}"));
            assert_eq!(history, History::new([entered(1)]), "{written}");
        }
    }

    #[test]
    fn a_partial_line_affects_no_other_line_and_is_an_error_only_if_no_process_died() {
        let (_directory, journal) = journal();
        journal.write(&entered(1)).unwrap();
        (&journal.file).write_all(b"\n{\"process\":2,\"at\":{\"se").unwrap();
        journal.write(&entered(3)).unwrap();
        let error = journal.read().unwrap_err();
        assert!(matches!(error, JournalError::Torn { torn: 1, deaths: 0 }), "{error}");
        journal.write(&record(2, Event::Died)).unwrap();
        let history = journal.read().unwrap();
        assert_eq!(history.entries().len(), 2, "{history:?}");
    }
}
