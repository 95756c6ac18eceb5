//! Waits until a lock is free.

use std::slice;

use syncguard::{Error, LockManager, LockWatch, backend::Counters};
use tokio::time::timeout;

use crate::{
    arguments,
    exit::Exit,
    failure::Failure,
    opening::{Wait, open},
    report::name_keys,
    waiting::show_holder,
};

/// Waits until no one holds the lock, or until the time has elapsed.
pub(crate) async fn wait(arguments: &arguments::Wait) -> Result<Exit, Failure> {
    name_keys(slice::from_ref(&arguments.key));
    let wait = Wait::start(arguments.timeout);
    let locks = LockManager::new(open(&arguments.store, Counters::FromOne, wait).await?);
    let mut watch = locks.watch(&arguments.key)?;
    let free = async {
        tokio::select! {
            free = until_free(&mut watch) => free,
            never = show_holder(&locks, slice::from_ref(&arguments.key)) => match never {},
        }
    };
    match timeout(wait.left(), free).await {
        Ok(free) => free.map(|()| Exit::SUCCESS).map_err(Failure::from),
        Err(_) => Err(Failure::StillHeld(arguments.key.display_hash())),
    }
}

/// Follows the holders of the lock. A store that does not answer for a time does not end that.
async fn until_free(watch: &mut LockWatch) -> Result<(), Error> {
    loop {
        match watch.changed().await {
            Ok(None) => return Ok(()),
            Ok(Some(_)) => {}
            Err(error) if error.is_retryable() => {}
            Err(error) => return Err(error),
        }
    }
}
