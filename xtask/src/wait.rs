//! Waits for what is asynchronous.

use crate::failure::Failure;

/// Runs on this thread, with which the kernel ends what is started in it.
pub(crate) fn wait<T, E>(future: impl Future<Output = Result<T, E>>) -> Result<T, Failure>
where
    Failure: From<E>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(Failure::Runtime)?.block_on(future)?)
}
