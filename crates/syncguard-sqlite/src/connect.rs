//! Opening the file.

use std::path::PathBuf;

use syncguard_core::{Error, LockBackend, Operation};

use crate::{
    SqliteBackend, SqliteConfig, config::Target, error::Failure, store::Store, turn::Rank,
    worker::Worker,
};

impl SqliteBackend {
    /// Opens the file at `path`, which is created where it is missing, with the default settings.
    ///
    /// # Errors
    ///
    /// As [`SqliteConfig::connect`].
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        SqliteConfig::new(path).connect().await
    }
}

impl SqliteConfig {
    /// Opens the file, switches it to a write-ahead log, creates the tables where they are missing, and
    /// looks for unsafe settings. Any number of processes may do so at once. A file that it creates, and
    /// the two that SQLite keeps beside it, may be read and written by their owner alone (mode 0600).
    ///
    /// # Errors
    ///
    /// - [`InvalidArgument`](syncguard_core::ErrorKind::InvalidArgument) for a path that names no
    ///   file (`:memory:`, a URI, an empty one), one that is not UTF-8, and a busy timeout above
    ///   [`MAX_BUSY_TIMEOUT`](Self::MAX_BUSY_TIMEOUT).
    /// - [`ServiceUnavailable`](syncguard_core::ErrorKind::ServiceUnavailable) where the file cannot
    ///   be opened, or is in use for longer than the busy timeout.
    /// - [`AuthFailed`](syncguard_core::ErrorKind::AuthFailed) where the file may not be written.
    /// - [`Unsupported`](syncguard_core::ErrorKind::Unsupported) where a newer version of this crate
    ///   made the tables, where the file has several hard links or is mounted by itself, and where
    ///   settings are unsafe and that is to be [refused](syncguard_core::UnsafeSettings::Refuse).
    /// - [`Internal`](syncguard_core::ErrorKind::Internal) where the file is no SQLite database or
    ///   is damaged, and where its log was deleted or replaced while this process had it open.
    pub async fn connect(self) -> Result<SqliteBackend, Error> {
        let (path, unsafe_settings) = (self.path.clone(), self.unsafe_settings);
        let backend =
            self.open().await.map_err(|failure| failure.into_error(Operation::Connect, &path))?;
        unsafe_settings.enforce(backend.check()).await?;
        Ok(backend)
    }

    /// Opens what operations work with, on a thread of its own.
    async fn open(self) -> Result<SqliteBackend, Failure> {
        let target = Target::try_from(self)?;
        let worker = Worker::start()?;
        let store = worker.call(Rank::Other, |_| Store::open(target)).await?;
        Ok(SqliteBackend::new(store, worker))
    }
}
