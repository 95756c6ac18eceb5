use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::{detached::Detached, queue::Queues, store_clock::StoreClock};
use crate::{
    BootInstant, Clock, DynBackend, Error, ErrorKind, Operation, Owner, Timestamp, Ttl,
    telemetry::{self, Judged},
};

pub(crate) type OnReleaseError = Arc<dyn Fn(&Error) + Send + Sync>;

/// What all locks of one [`SyncGuard`](crate::SyncGuard) have in common.
pub(crate) struct Shared {
    pub(crate) backend: DynBackend,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store_clock: StoreClock,
    pub(crate) queues: Queues,
    /// Everything that must still reach the store though nobody waits for it.
    pub(crate) tasks: TaskTracker,
    pub(crate) owner: Owner,
    pub(crate) grace: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) runtime: Option<Handle>,
    pub(crate) on_release_error: Option<OnReleaseError>,
}

impl Shared {
    /// Finds the runtime for background work: the configured one, else the caller's.
    pub(crate) fn runtime(&self, operation: Operation) -> Result<Handle, Error> {
        let runtime = self.runtime.clone().map_or_else(Handle::try_current, Ok);
        runtime.map_err(|none| {
            Error::new(ErrorKind::Internal, operation).with_source(none).not_applied()
        })
    }

    /// Bounds one request. What is cut off may have applied.
    pub(crate) async fn bounded<T: Judged>(
        &self,
        operation: Operation,
        limit: Duration,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let late = |_| Error::new(ErrorKind::NetworkTimeout, operation);
        let requesting = telemetry::requesting(operation);
        let answer = requesting.within(pin!(tokio::time::timeout(limit, request))).await;
        requesting.end(answer.unwrap_or_else(|cut| Err(late(cut))))
    }

    /// Takes what an answer tells of the store's clock.
    pub(crate) fn answered(&self, expires_at: Timestamp, ttl: Ttl, sent: BootInstant) {
        self.store_clock.answered(expires_at, ttl, sent, self.clock.now());
    }

    /// Makes a future that runs to its end even if its caller goes away.
    pub(crate) fn detached<T: Send + 'static>(
        &self,
        runtime: &Handle,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Detached<T> {
        Detached::new(future, runtime.clone(), self.tasks.clone())
    }
}
