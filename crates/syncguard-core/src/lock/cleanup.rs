//! What must still happen at the store after the caller has gone.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use tokio::runtime::Handle;

use super::{Retry, shared::Shared};
use crate::{BootInstant, Error, ErrorKind, LockBackend, LockId, LockKey, LockRef, Operation, Ttl};

/// How long beyond the ttl a clean-up is still tried. After that the grant, if there was one, is
/// over by itself.
const BEYOND_TTL: Duration = Duration::from_secs(1);

/// One grant that must not be left behind.
#[derive(Clone, Debug)]
pub(crate) struct Cleanup {
    pub(crate) key: LockKey,
    pub(crate) lock_id: LockId,
    pub(crate) ttl: Ttl,
    pub(crate) action: Action,
}

/// How to end the grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// It is known to exist.
    Release,
    /// Nobody knows whether it exists, or will.
    Abandon,
}

impl Shared {
    /// Hands a grant over to a background task. Never blocks and needs no runtime around it; where
    /// `runtime` is gone, the failure is reported and the ttl does the rest.
    pub(crate) fn clean_up(self: &Arc<Self>, runtime: &Handle, cleanup: Cleanup) {
        let until = self.clock.now() + cleanup.ttl.as_duration() + BEYOND_TTL;
        let task = Task { shared: self.clone(), cleanup, finished: false };
        self.tasks.spawn_on(task.run(until), runtime);
    }

    pub(crate) fn report(&self, error: &Error) {
        tracing::warn!(%error, "a lock could not be released; its ttl will end it");
        if let Some(callback) = &self.on_release_error {
            // A callback that panics must not take the clean-up of other locks with it.
            if catch_unwind(AssertUnwindSafe(|| callback(error))).is_err() {
                tracing::error!("on_release_error panicked");
            }
        }
    }
}

/// Tries until the store answers, and says so when it is dropped before that.
struct Task {
    shared: Arc<Shared>,
    cleanup: Cleanup,
    finished: bool,
}

impl Task {
    async fn run(mut self, until: BootInstant) {
        let retry = Retry::exponential(Duration::from_millis(50)).unlimited();
        for delay in retry.schedule() {
            let Err(error) = self.attempt().await else {
                break;
            };
            if !error.is_retryable() || self.shared.clock.now() >= until {
                self.shared.report(&error);
                break;
            }
            tokio::time::sleep(delay).await;
        }
        self.finished = true;
        self.shared.queues.freed(&self.cleanup.key);
    }

    async fn attempt(&self) -> Result<(), Error> {
        let Cleanup { key, lock_id, action, .. } = &self.cleanup;
        let lock = LockRef::new(*lock_id, key.clone());
        let backend = &self.shared.backend;
        let request = async {
            match action {
                Action::Release => backend.release(&lock).await.map(drop),
                Action::Abandon => backend.abandon(*lock_id, key).await,
            }
        };
        let answer = self.shared.bounded(self.operation(), self.shared.request_timeout, request);
        answer.await.map_err(|error| error.with_key(key).with_lock_id(*lock_id))
    }

    fn operation(&self) -> Operation {
        match self.cleanup.action {
            Action::Release => Operation::Release,
            Action::Abandon => Operation::Abandon,
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.finished {
            let error = Error::new(ErrorKind::Aborted, self.operation())
                .with_key(&self.cleanup.key)
                .with_lock_id(self.cleanup.lock_id)
                .with_detail(
                    "its task ended first: the runtime was shut down, or the backend panicked",
                );
            self.shared.report(&error);
        }
    }
}
