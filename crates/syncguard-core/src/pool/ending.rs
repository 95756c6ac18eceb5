use std::sync::Arc;

use tokio::time::{Instant, sleep, timeout};

use super::{Inner, MAX_ENDING, Manager, Priority, opening::pauses};

/// A session whose client has gone, and the place that it keeps.
pub(super) struct Ending<S> {
    session: S,
    priority: Priority,
    until: Instant,
}

impl<M: Manager> Inner<M> {
    /// Lets a session be ended at the server.
    pub(super) fn end(self: &Arc<Self>, session: M::Session, priority: Priority) {
        let until = Instant::now() + MAX_ENDING;
        let starts = {
            let mut state = self.state();
            state.ending.push(Ending { session, priority, until });
            !std::mem::replace(&mut state.is_ending, true)
        };
        if starts {
            self.runtime.spawn(end_all(self.clone()));
        }
    }

    /// Frees the places of sessions that are gone, or have had their time. Returns those that are left.
    ///
    /// Only the one task that ends sessions calls it, so that what stands behind the first
    /// `gone.len()` came later.
    fn free_ended(self: &Arc<Self>, gone: &[bool]) -> Vec<M::Session> {
        let now = Instant::now();
        let mut given_up = 0;
        let left: Vec<M::Session> = {
            let mut state = self.state();
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
        self.settle();
        left
    }
}

/// Ends sessions until there are none left, by one connection at a time.
async fn end_all<M: Manager>(pool: Arc<Inner<M>>) {
    let mut pauses = pauses();
    let mut gone = Vec::new();
    loop {
        let sessions = pool.free_ended(&gone);
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
