//! Opening the file.

use std::path::PathBuf;

use syncguard_core::{Error, LockBackend, Operation};

use crate::{
    SqliteBackend, SqliteConfig, config::Target, error::Failure, store::Store, turn::Rank,
    worker::Worker,
};

impl SqliteBackend {
    /// Opens the file at `path` with the default settings. The file is created if it is missing.
    ///
    /// # Errors
    ///
    /// The same as for [`SqliteConfig::connect`].
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        SqliteConfig::new(path).connect().await
    }
}

impl SqliteConfig {
    /// Opens the file, switches it to a write-ahead log, creates the tables if they are missing,
    /// and checks for unsafe settings. Any number of processes may do so at once. A file that this
    /// creates, and the two that SQLite keeps beside it, can be read and written only by their
    /// owner (mode 0600).
    ///
    /// # Errors
    ///
    /// - [`InvalidArgument`](syncguard_core::ErrorKind::InvalidArgument) if the path names no file
    ///   (`:memory:`, a URI, an empty path) or is not UTF-8, or if the busy timeout is above
    ///   [`MAX_BUSY_TIMEOUT`](Self::MAX_BUSY_TIMEOUT).
    /// - [`ServiceUnavailable`](syncguard_core::ErrorKind::ServiceUnavailable) if the file cannot
    ///   be opened, or is in use for longer than the busy timeout.
    /// - [`AuthFailed`](syncguard_core::ErrorKind::AuthFailed) if the file may not be written.
    /// - [`Unsupported`](syncguard_core::ErrorKind::Unsupported) if a newer version of this crate
    ///   created the tables, if the file has several hard links or is itself a mount point, or if
    ///   settings are unsafe and are to be [refused](syncguard_core::UnsafeSettings::Refuse).
    /// - [`Internal`](syncguard_core::ErrorKind::Internal) if the file is not an SQLite database or
    ///   is damaged, or if its log was deleted or replaced while this process had it open.
    pub async fn connect(self) -> Result<SqliteBackend, Error> {
        let (path, unsafe_settings) = (self.path.clone(), self.unsafe_settings);
        let backend =
            self.open().await.map_err(|failure| failure.into_error(Operation::Connect, &path))?;
        unsafe_settings.enforce(backend.check()).await?;
        Ok(backend)
    }

    /// Opens the store that operations work with, on its own thread.
    async fn open(self) -> Result<SqliteBackend, Failure> {
        let target = Target::try_from(self)?;
        let worker = Worker::start()?;
        let store = worker.call(Rank::Other, |_| Store::open(target)).await?;
        Ok(SqliteBackend::new(store, worker))
    }
}
