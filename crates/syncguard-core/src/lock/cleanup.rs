//! Requests that must still reach the store after the caller has gone.

use std::{sync::Arc, time::Duration};

use tokio::runtime::Handle;

use super::{Retry, shared::Shared, timer::MAX_TIMER_SLEEP};
use crate::{
    BootInstant, Error, ErrorKind, LockBackend, LockId, LockKey, LockRef, Operation, Ttl, telemetry,
};

/// How long beyond the ttl a clean-up is retried. After that the grant, if there was one, has
/// expired.
const BEYOND_TTL: Duration = Duration::from_secs(1);

/// One grant that must not be left behind.
#[derive(Clone, Debug)]
pub(crate) struct Cleanup {
    pub(crate) key: LockKey,
    pub(crate) lock_id: LockId,
    pub(crate) ttl: Ttl,
    pub(crate) action: Action,
    /// Until when the key stays taken nevertheless.
    pub(crate) keep_until: Option<BootInstant>,
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
    /// Hands the grant over to a background task. Never blocks and does not require a runtime.
    ///
    /// The task runs on the [host](super::runtime::Runtimes::host) of the lock. If that ends first,
    /// the task moves to `home`, where the lock was acquired. If neither is left, the failure is
    /// reported and the ttl ends the grant.
    pub(crate) fn start(self, shared: &Arc<Shared>, home: &Handle) {
        let until = shared.clock.now() + self.ttl.as_duration() + BEYOND_TTL;
        let (shared, host) = (shared.clone(), shared.runtimes.host(home));
        let other = Some(home).filter(|home| home.id() != host.id()).cloned();
        Task { shared, cleanup: self, until, host, other, finished: false }.start();
    }
}

/// Retries until the store answers, and reports a failure if it is dropped before that.
struct Task {
    shared: Arc<Shared>,
    cleanup: Cleanup,
    until: BootInstant,
    /// The runtime on which it runs.
    host: Handle,
    /// The runtime on which it may run instead.
    other: Option<Handle>,
    finished: bool,
}

impl Task {
    /// Starts the task on its host. A host that has ended drops the task immediately, which moves
    /// it on.
    fn start(self) {
        let Cleanup { key, lock_id, action, .. } = &self.cleanup;
        let ongoing = telemetry::cleaning_up(key, *lock_id, action.operation());
        let (tasks, host) = (self.shared.tasks.clone(), self.host.clone());
        let task = ongoing.within(self.run());
        tasks.spawn_on(async move { drop(ongoing.end(task.await)) }, &host);
    }

    async fn run(mut self) -> Result<(), Error> {
        self.keep().await;
        let ended = self.attempts().await;
        let _ = ended.as_ref().inspect_err(|error| self.shared.report(error));
        self.finished = true;
        (self.shared.on_freed)(&self.cleanup.key);
        ended
    }

    async fn attempts(&self) -> Result<(), Error> {
        let mut schedule = Retry::exponential(Duration::from_millis(50)).unlimited().schedule();
        loop {
            let answer = self.attempt().await;
            let may_pass =
                |error: &Error| error.is_retryable() && self.shared.clock.now() < self.until;
            match (answer, schedule.next()) {
                (Err(error), Some(delay)) if may_pass(&error) => tokio::time::sleep(delay).await,
                (answer, _) => return answer,
            }
        }
    }

    /// Waits until a grant may be abandoned. Unlike a release, an abandon cannot be scheduled for
    /// later.
    async fn keep(&self) {
        let Cleanup { action: Action::Abandon, keep_until: Some(until), .. } = self.cleanup else {
            return;
        };
        // Sleep by the boot clock, in short steps: a timer stands still while the machine sleeps.
        loop {
            let left = until.since(self.shared.clock.now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(MAX_TIMER_SLEEP)).await;
        }
    }

    async fn attempt(&self) -> Result<(), Error> {
        let Cleanup { key, lock_id, action, keep_until, .. } = &self.cleanup;
        let shared = &self.shared;
        let answer = match action {
            Action::Release => {
                let lock = LockRef::new(*lock_id, key.clone());
                shared.end_grant(&lock, *keep_until, &self.host).await.map(drop)
            }
            Action::Abandon => {
                let request = shared.backend.abandon(*lock_id, key);
                shared
                    .bounded(Operation::Abandon, shared.request_timeout, &self.host, request)
                    .await
            }
        };
        answer.map_err(|error| error.with_key(key).with_lock_id(*lock_id))
    }
}

impl Task {
    /// Creates the same task for the other runtime, unless a panic of the backend ended this one.
    fn next(&mut self) -> Option<Self> {
        let host = self.other.take().filter(|_| !std::thread::panicking())?;
        let (shared, cleanup) = (self.shared.clone(), self.cleanup.clone());
        Some(Self { shared, cleanup, until: self.until, host, other: None, finished: false })
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        if let Some(next) = self.next() {
            return next.start();
        }
        let error = Error::new(ErrorKind::Aborted, self.cleanup.action.operation())
            .with_key(&self.cleanup.key)
            .with_lock_id(self.cleanup.lock_id)
            .with_detail(
                "its task ended first: the runtime was shut down, or the backend panicked",
            );
        self.shared.report(&error);
    }
}
