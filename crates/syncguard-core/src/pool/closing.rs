use std::sync::{Arc, Weak};

use tokio::{task::JoinHandle, time::sleep_until};

use super::{lease::Inner, manager::Manager};

/// Starts the task that closes connections no one has used for a while. It ends when no idle
/// connection is left.
pub(super) fn start<M: Manager>(pool: &Arc<Inner<M>>) -> JoinHandle<()> {
    pool.runtime.spawn(close_idle(Arc::downgrade(pool)))
}

async fn close_idle<M: Manager>(pool: Weak<Inner<M>>) {
    loop {
        let Some(pool) = pool.upgrade() else { return };
        // Dropped after the state is unlocked: closing a socket is a system call.
        let (expired, next) = pool.state().take_expired();
        drop((expired, pool));
        match next {
            Some(next) => sleep_until(next).await,
            None => return,
        }
    }
}
