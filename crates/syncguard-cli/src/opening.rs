//! Opening the store for a command, within the wait.

use std::time::Duration;

use syncguard::{DynBackend, Error, Retry, backend::Counters};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{arguments::Store, failure::Failure, report::note, settings::warn_of_settings, store};

/// How long the store may take to open even if the wait is shorter: the wait is meant for the lock.
const MIN_OPENING: Duration = Duration::from_secs(1);

/// How long to wait for the store and the lock together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    start: Instant,
    limit: Duration,
}

impl Wait {
    /// Waits for nothing.
    pub(crate) fn none() -> Self {
        Self::start(Duration::ZERO)
    }

    pub(crate) fn start(limit: Duration) -> Self {
        Self { start: Instant::now(), limit }
    }

    pub(crate) fn left(self) -> Duration {
        self.limit.saturating_sub(self.start.elapsed())
    }

    /// Returns until when the store has to be open: at any time if the wait is endless, or if nothing
    /// is waited for, because one attempt takes as long as it takes.
    fn opening_deadline(self) -> Option<Instant> {
        let limit = Some(self.limit).filter(|limit| !limit.is_zero())?;
        self.start.checked_add(limit.max(MIN_OPENING))
    }
}

/// Opens the store, and warns of its settings that would break a guarantee.
///
/// A store that does not answer is given up when the wait ends, as a lock is, but not before a second.
pub(crate) async fn open(
    store: &Store,
    counters: Counters,
    wait: Wait,
) -> Result<DynBackend, Failure> {
    let mut failed = None;
    let opening = async {
        let backend = connect(store, counters, wait, &mut failed).await?;
        note("the store is open");
        warn_of_settings(&backend).await;
        Ok(backend)
    };
    let Some(deadline) = wait.opening_deadline() else {
        return opening.await;
    };
    let opened = timeout_at(deadline, opening).await;
    opened.unwrap_or_else(|_| Err(failed.map_or(Failure::StoreTimeout, Failure::Lock)))
}

/// Opens the store, and retries within the wait, as an acquire does: the server may be starting, or
/// have no connection left for another process that waits for the lock. Keeps the last failure.
async fn connect(
    store: &Store,
    counters: Counters,
    wait: Wait,
    failed: &mut Option<Error>,
) -> Result<DynBackend, Failure> {
    let mut delays = Retry::default().unlimited().delays();
    loop {
        match store::open(store, counters).await {
            Err(Failure::Lock(error)) if error.is_retryable() => match delays.next() {
                Some(delay) if delay < wait.left() => {
                    note(format_args!("the store cannot be opened yet: {error}"));
                    *failed = Some(error);
                    sleep(delay).await;
                }
                _ => return Err(Failure::Lock(error)),
            },
            opened => return opened,
        }
    }
}
