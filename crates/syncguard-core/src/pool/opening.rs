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

/// Opens one connection for the pool. It is counted as long as it lives.
struct Opener<M: Manager> {
    pool: Arc<Inner<M>>,
    counted: bool,
}

impl<M: Manager> Opener<M> {
    /// Tries until it succeeds, until no one waits, or until retrying is pointless.
    async fn run(mut self) {
        loop {
            match timeout(self.pool.limits.open, self.pool.manager.open()).await {
                Ok(Ok(connection)) => return self.opened(connection),
                Ok(Err(error)) => self.failed(Some(Arc::new(error))),
                Err(_) => self.failed(None),
            }
            let pause = self.pool.state().pause();
            // While opening fails, only one opener continues.
            if self.ends_where(|state| !state.is_only_opener()) {
                return;
            }
            sleep(pause).await;
            if self.ends_where(|state| !state.anyone_waits()) {
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
            state.keep(connection);
        }
        self.pool.settle();
    }

    /// Reports an error that is not transient to all waiters, unless a connection is left that can
    /// still serve them.
    fn failed(&self, error: Option<Arc<M::Error>>) {
        let passes = |error: &Arc<M::Error>| self.pool.manager.is_transient(error);
        let lasting = error.clone().filter(|error| !passes(error));
        let waiters = {
            let mut state = self.pool.state();
            state.cause = error;
            match &lasting {
                Some(_) if state.has_no_connection() => state.leave_all(),
                _ => Vec::new(),
            }
        };
        if let Some(error) = lasting {
            for waiter in waiters {
                // It may have gone meanwhile.
                let _ = waiter.send(Err(LeaseError::Failed(error.clone())));
            }
        }
    }

    /// Ends the opener if a condition holds.
    ///
    /// The condition is tested, and the opener is removed from the count, under one lock. Otherwise
    /// two that fail together would each leave it to the other one, and a waiter that arrives just
    /// then would rely on one that is about to end; in both cases a waiter would wait forever.
    fn ends_where(&mut self, condition: impl FnOnce(&State<M, Lease<M>>) -> bool) -> bool {
        let mut state = self.pool.state();
        let ends = condition(&state);
        if ends {
            state.opener_ended();
            self.counted = false;
        }
        ends
    }
}

impl<M: Manager> Drop for Opener<M> {
    fn drop(&mut self) {
        if self.counted {
            self.pool.state().opener_ended();
        }
    }
}
