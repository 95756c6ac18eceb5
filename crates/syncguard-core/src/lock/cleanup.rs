//! Requests that must reach the store even after their caller was dropped.

use std::{mem, sync::Arc, time::Duration};

use tokio::runtime::Handle;

use super::{Retry, shared::Shared};
use crate::{
    BootInstant, Error, ErrorKind, LockId, LockKey, Operation, Ttl,
    backend::{LockBackend, LockRef, Mode},
    telemetry,
};

/// How long a clean-up is retried after the ttl has elapsed. By then the grant, if there was one,
/// has expired.
const MAX_RETRY_PAST_TTL: Duration = Duration::from_secs(1);

/// A grant that must be ended, or an id that must be abandoned.
#[derive(Clone, Debug)]
pub(crate) struct Cleanup {
    pub(crate) key: LockKey,
    pub(crate) lock_id: LockId,
    pub(crate) mode: Mode,
    pub(crate) ttl: Ttl,
    pub(crate) action: Action,
    /// Until when the key stays held, by `min_hold`.
    pub(crate) keep_until: Option<BootInstant>,
    /// Whether the lock still counts as held.
    pub(crate) counted: bool,
}

/// How a grant is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The grant is known to exist.
    Release,
    /// It is unknown whether the grant exists or will exist: its first acquire may still be in
    /// flight.
    Abandon,
}

impl Action {
    fn operation(self) -> Operation {
        match self {
            Self::Release => Operation::Release,
            Self::Abandon => Operation::Abandon,
        }
    }
}

impl Cleanup {
    /// Starts a background task that ends the grant. Never blocks and does not require a runtime.
    ///
    /// The task runs on the [host](super::runtime::Runtimes::host) of the lock. If that ends first,
    /// the task moves to `home`, on which the lock was acquired. If that has ended too, the failure
    /// is reported and the ttl ends the grant.
    pub(crate) fn start(self, shared: &Arc<Shared>, home: &Handle) {
        let retry_until = shared.clock.now() + self.ttl.as_duration() + MAX_RETRY_PAST_TTL;
        let (shared, host) = (shared.clone(), shared.runtimes.host(home));
        let fallback = Some(home).filter(|home| home.id() != host.id()).cloned();
        Task { shared, cleanup: self, retry_until, host, fallback, finished: false }.start();
    }
}

/// Retries until the store answers, and reports a failure if it is dropped before that.
struct Task {
    shared: Arc<Shared>,
    cleanup: Cleanup,
    retry_until: BootInstant,
    /// The runtime on which it runs.
    host: Handle,
    /// The runtime to which it moves if its host ends.
    fallback: Option<Handle>,
    finished: bool,
}

impl Task {
    /// Starts the task on its host. A host that has ended drops the task immediately, which moves
    /// it to the fallback.
    fn start(self) {
        let Cleanup { key, lock_id, action, .. } = &self.cleanup;
        let cleaning_up = telemetry::cleaning_up(key, *lock_id, action.operation());
        let (tasks, host) = (self.shared.tasks.clone(), self.host.clone());
        let task = cleaning_up.within(self.run());
        tasks.spawn_on(async move { drop(cleaning_up.end(task.await)) }, &host);
    }

    async fn run(mut self) -> Result<(), Error> {
        self.wait_for_min_hold().await;
        let result = self.attempts().await;
        let _ = result.as_ref().inspect_err(|error| self.shared.report_release_error(error));
        self.finished = true;
        self.uncount();
        result
    }

    fn uncount(&mut self) {
        let (holds, key) = (&self.shared.holds, &self.cleanup.key);
        match (mem::take(&mut self.cleanup.counted), self.cleanup.action) {
            (true, _) => holds.released(key, self.cleanup.mode),
            (false, Action::Release) => holds.freed(key),
            (false, Action::Abandon) => holds.abandoned(key),
        }
    }

    async fn attempts(&self) -> Result<(), Error> {
        let mut schedule = Retry::exponential(Duration::from_millis(50)).unlimited().schedule();
        loop {
            let reply = self.attempt().await;
            let may_retry =
                |error: &Error| error.is_retryable() && self.shared.clock.now() < self.retry_until;
            match (reply, schedule.next()) {
                (Err(error), Some(delay)) if may_retry(&error) => tokio::time::sleep(delay).await,
                (reply, _) => return reply,
            }
        }
    }

    /// Waits until a grant may be abandoned. Unlike a release, an abandon takes effect immediately.
    async fn wait_for_min_hold(&self) {
        let Cleanup { action: Action::Abandon, keep_until: Some(until), .. } = self.cleanup else {
            return;
        };
        loop {
            let sleeper = self.shared.sleeper();
            let left = until.since(self.shared.clock.now());
            if left.is_zero() {
                return;
            }
            sleeper.sleep(left).await;
        }
    }

    async fn attempt(&self) -> Result<(), Error> {
        let Cleanup { key, lock_id, mode, action, keep_until, .. } = &self.cleanup;
        let shared = &self.shared;
        let reply = match action {
            Action::Release => {
                let lock = LockRef::new(*lock_id, key.clone()).with_mode(*mode);
                shared.end_grant(&lock, *keep_until, &self.host).await.map(drop)
            }
            Action::Abandon => {
                let request = shared.backend.abandon(*lock_id, key);
                shared
                    .send_with_timeout(
                        Operation::Abandon,
                        shared.request_timeout,
                        &self.host,
                        request,
                    )
                    .await
            }
        };
        reply.map_err(|error| error.with_key(key).with_lock_id(*lock_id))
    }
}

impl Task {
    /// Creates the same task for the fallback, unless a panic of the backend ended this one.
    fn on_fallback(&mut self) -> Option<Self> {
        let host = self.fallback.take().filter(|_| !std::thread::panicking())?;
        let (shared, cleanup) = (self.shared.clone(), self.cleanup.clone());
        Some(Self {
            shared,
            cleanup,
            retry_until: self.retry_until,
            host,
            fallback: None,
            finished: false,
        })
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        if let Some(task) = self.on_fallback() {
            return task.start();
        }
        self.uncount();
        let error = Error::new(ErrorKind::Aborted)
            .with_operation(self.cleanup.action.operation())
            .with_key(&self.cleanup.key)
            .with_lock_id(self.cleanup.lock_id)
            .with_detail(
                "its task ended first: the runtime was shut down, or the backend panicked",
            );
        self.shared.report_release_error(&error);
    }
}
