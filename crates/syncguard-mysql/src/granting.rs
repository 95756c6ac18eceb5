//! What granting has in common in both modes.

use crate::{error::Failure, statement::Statement, store::Store};

/// How many times to try to acquire a key that changes hands between the statement that would grant
/// it and the one that reads its holder.
pub(crate) const MAX_ATTEMPTS: usize = 4;

/// Guarantees that a grant that was made by another request is on the disk.
///
/// The server shows a commit to others before it is on the disk, and only the connection that made
/// it waits for that. A caller that asks again while that connection still waits would get a grant
/// that a crash can undo, after which its fence is issued to another holder.
pub(crate) async fn harden(store: &Store) -> Result<(), Failure> {
    store.connections.run(Statement::write(&store.sql.harden)).await.map(drop)
}
