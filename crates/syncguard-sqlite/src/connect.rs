//! Opening the file.

use crate::{
    SqliteConfig, config::Target, error::Failure, store::Store, turn::Rank, worker::Worker,
};

/// Starts the backend's thread, and opens the store that operations work with on it.
pub(crate) async fn connect(config: SqliteConfig) -> Result<(Store, Worker), Failure> {
    let target = Target::try_from(config)?;
    let worker = Worker::start()?;
    let store = worker.call(Rank::Other, |_| Store::open(target)).await?;
    Ok((store, worker))
}
