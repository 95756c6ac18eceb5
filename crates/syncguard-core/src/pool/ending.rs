use std::sync::Arc;

use tokio::time::{Instant, sleep, timeout};

use super::{lease::Inner, manager::Manager, state::pauses};

/// Starts the task that ends sessions.
pub(super) fn start<M: Manager>(pool: Arc<Inner<M>>) {
    let runtime = pool.runtime.clone();
    runtime.spawn(end_all(pool));
}

/// Ends sessions until no session is left, using one connection at a time.
async fn end_all<M: Manager>(pool: Arc<Inner<M>>) {
    let mut pauses = pauses();
    let mut gone = Vec::new();
    loop {
        let sessions = free_slots(&pool, &gone);
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

/// Frees the slots of sessions that are gone or have timed out. Returns the remaining sessions.
///
/// Only the one task that ends sessions calls it, so the sessions after the first `gone.len()` were
/// added later.
fn free_slots<M: Manager>(pool: &Arc<Inner<M>>, gone: &[bool]) -> Vec<M::Session> {
    let now = Instant::now();
    let mut timed_out = 0;
    let left: Vec<M::Session> = {
        let mut state = pool.state();
        let ending = std::mem::take(&mut state.ending);
        for (index, session) in ending.into_iter().enumerate() {
            let is_gone = gone.get(index).copied().unwrap_or_default();
            if is_gone || session.until <= now {
                timed_out += usize::from(!is_gone);
                state.free(session.priority);
            } else {
                state.ending.push(session);
            }
        }
        state.is_ending = !state.ending.is_empty();
        state.ending.iter().map(|ending| ending.session.clone()).collect()
    };
    if timed_out > 0 {
        tracing::warn!(
            sessions = timed_out,
            "sessions without an answer could not be ended at the server; their slots in the pool \
             are free again"
        );
    }
    pool.settle();
    left
}
