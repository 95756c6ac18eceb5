use std::sync::Arc;

use tokio::time::{Instant, sleep, timeout};

use super::{lease::Inner, manager::Manager, state::pauses};

/// Starts ending the sessions that are to be ended.
pub(super) fn start<M: Manager>(pool: Arc<Inner<M>>) {
    let runtime = pool.runtime.clone();
    runtime.spawn(end_all(pool));
}

/// Ends sessions until no session is left, using one connection at a time.
async fn end_all<M: Manager>(pool: Arc<Inner<M>>) {
    let mut pauses = pauses();
    let mut gone = Vec::new();
    loop {
        let sessions = free_ended(&pool, &gone);
        if sessions.is_empty() {
            return;
        }
        gone = match timeout(pool.limits.open, pool.manager.end(&sessions)).await {
            Ok(Ok(gone)) => gone,
            _ => Vec::new(),
        };
        if gone.is_empty() || gone.contains(&false) {
            sleep(pauses.next().unwrap_or_default()).await;
        }
    }
}

/// Frees the places of sessions that are gone, or whose time is up. Returns those that are left.
///
/// Only the one task that ends sessions calls it, so the sessions after the first `gone.len()` came
/// later.
fn free_ended<M: Manager>(pool: &Arc<Inner<M>>, gone: &[bool]) -> Vec<M::Session> {
    let now = Instant::now();
    let mut given_up = 0;
    let left: Vec<M::Session> = {
        let mut state = pool.state();
        let ending = std::mem::take(&mut state.ending);
        for (index, session) in ending.into_iter().enumerate() {
            let is_gone = gone.get(index).copied().unwrap_or_default();
            if is_gone || session.until <= now {
                given_up += usize::from(!is_gone);
                state.free(session.priority);
            } else {
                state.ending.push(session);
            }
        }
        state.is_ending = !state.ending.is_empty();
        state.ending.iter().map(|ending| ending.session.clone()).collect()
    };
    if given_up > 0 {
        tracing::warn!(
            sessions = given_up,
            "sessions whose answer did not come could not be ended at the server; their places \
             in the pool are used again"
        );
    }
    pool.settle();
    left
}
