use std::sync::Arc;

use tokio::time::{sleep, timeout};

use super::{
    error::LeaseError,
    lease::{Inner, Lease},
    manager::Manager,
    state::State,
};

/// Starts opening one connection, which the plan has counted.
pub(super) fn start<M: Manager>(pool: Arc<Inner<M>>) {
    let runtime = pool.runtime.clone();
    runtime.spawn(Opener { pool, counted: true }.run());
}

/// Opens one connection for the pool. It is counted until it is dropped.
struct Opener<M: Manager> {
    pool: Arc<Inner<M>>,
    counted: bool,
}

impl<M: Manager> Opener<M> {
    /// Retries until it succeeds, until no caller waits, or until another opener continues.
    async fn run(mut self) {
        loop {
            match timeout(self.pool.limits.open, self.pool.manager.open()).await {
                Ok(Ok(connection)) => return self.opened(connection),
                Ok(Err(error)) => self.failed(Some(Arc::new(error))),
                Err(_) => self.failed(None),
            }
            let pause = self.pool.state().pause();
            // While opening fails, only one opener continues.
            if self.stop_if(|state| !state.is_only_opener()) {
                return;
            }
            sleep(pause).await;
            if self.stop_if(|state| !state.anyone_waits()) {
                return;
            }
        }
    }

    fn opened(mut self, connection: M::Connection) {
        {
            let mut state = self.pool.state();
            (state.pauses, state.cause) = (None, None);
            state.opener_ended();
            self.counted = false;
            self.pool.add(&mut state, connection);
        }
        self.pool.settle();
    }

    /// Reports an error that is not transient to all waiters, unless another connection can still
    /// serve them.
    fn failed(&self, error: Option<Arc<M::Error>>) {
        let is_transient = |error: &Arc<M::Error>| self.pool.manager.is_transient(error);
        let permanent = error.clone().filter(|error| !is_transient(error));
        let waiters = {
            let mut state = self.pool.state();
            state.cause = error;
            match &permanent {
                Some(_) if state.has_no_connection() => state.take_waiters(),
                _ => Vec::new(),
            }
        };
        if let Some(error) = permanent {
            for waiter in waiters {
                // The waiter may have been dropped.
                let _ = waiter.send(Err(LeaseError::Failed(error.clone())));
            }
        }
    }

    /// Removes the opener from the count if a condition holds. Returns whether it does.
    ///
    /// The condition is tested, and the opener is removed from the count, under one lock. Otherwise
    /// two openers that fail together would each rely on the other one, and a waiter that arrives
    /// just then would rely on an opener that is about to end. In both cases a waiter would wait
    /// forever.
    fn stop_if(&mut self, condition: impl FnOnce(&State<M, Lease<M>>) -> bool) -> bool {
        let mut state = self.pool.state();
        let stops = condition(&state);
        if stops {
            state.opener_ended();
            self.counted = false;
        }
        stops
    }
}

impl<M: Manager> Drop for Opener<M> {
    fn drop(&mut self) {
        if self.counted {
            self.pool.state().opener_ended();
        }
    }
}
