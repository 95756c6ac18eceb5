//! Runs a future.

use crate::failure::Failure;

/// Runs a future on this thread. The kernel ends the processes that it starts with the thread.
pub(crate) fn block_on<T, E>(future: impl Future<Output = Result<T, E>>) -> Result<T, Failure>
where
    Failure: From<E>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(Failure::Runtime)?.block_on(future)?)
}
