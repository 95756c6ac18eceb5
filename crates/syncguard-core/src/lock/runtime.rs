//! The choice of the runtime for each piece of work.
//!
//! The rules are on the architecture page, under "Runtimes".

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Error, ErrorKind, Operation};

/// Selects the runtime for background work: the configured one, or that of the caller.
#[derive(Default)]
pub(crate) struct Runtimes(Option<Configured>);

/// The configured runtime, and whether it has been shut down.
struct Configured {
    handle: Handle,
    ended: Arc<AtomicBool>,
    /// Ends the sentinel together with the last use of the handle.
    _sentinel: DropGuard,
}

/// Lives in a task for as long as its runtime. A runtime that is shut down drops its tasks before
/// its timers, so the flag is set before anything that depends on them fails.
struct Sentinel(Arc<AtomicBool>);

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Configured {
    fn new(handle: Handle) -> Self {
        let (ended, unused) = (Arc::<AtomicBool>::default(), CancellationToken::new());
        let (sentinel, token) = (Sentinel(ended.clone()), unused.clone());
        handle.spawn(async move {
            let _sentinel = sentinel;
            token.cancelled().await;
        });
        Self { handle, ended, _sentinel: unused.drop_guard() }
    }

    fn alive(&self) -> Option<&Handle> {
        Some(&self.handle).filter(|_| !self.ended.load(Ordering::Acquire))
    }
}

impl Runtimes {
    /// Sets the configured runtime.
    pub(crate) fn configure(&mut self, handle: Handle) {
        self.0 = Some(Configured::new(handle));
    }

    fn configured(&self) -> Option<&Handle> {
        self.0.as_ref().and_then(Configured::alive)
    }

    /// Returns the runtime for the background work of a new lock: the configured one, else the
    /// caller's.
    pub(crate) fn home(&self, operation: Operation) -> Result<Handle, Error> {
        let home = self.configured().cloned().map_or_else(Handle::try_current, Ok);
        home.map_err(|none| {
            let error = Error::new(ErrorKind::Internal)
                .with_operation(operation)
                .with_source(none)
                .not_applied();
            match self.0 {
                Some(_) => error.with_detail("the configured runtime was shut down"),
                None => error.with_detail("no runtime is configured, and there is no current one"),
            }
        })
    }

    /// Returns the runtime for work on a lock that was acquired on `home`, which may have ended or
    /// may no longer be driven: the configured one, else the caller's, which is currently being
    /// driven, else `home`.
    pub(crate) fn host(&self, home: &Handle) -> Handle {
        let host = self.configured().cloned().map_or_else(Handle::try_current, Ok);
        host.unwrap_or_else(|_| home.clone())
    }

    /// Polls a future of the backend, which may require a runtime, in the context of the configured
    /// one, else of the caller's, else of `home`.
    ///
    /// Timers of this layer are polled outside of it: they must not depend on a runtime that has
    /// ended or that no thread drives.
    pub(crate) fn poll_in_context<F: Future + ?Sized>(
        &self,
        home: Option<&Handle>,
        future: Pin<&mut F>,
        context: &mut Context<'_>,
    ) -> Poll<F::Output> {
        self.in_context(home, || future.poll(context))
    }

    /// Calls the backend in the context in which its futures are polled.
    pub(crate) fn in_context<T>(&self, home: Option<&Handle>, call: impl FnOnce() -> T) -> T {
        let _entered = match (self.configured(), home) {
            (Some(configured), _) => Some(configured.enter()),
            (None, Some(home)) if Handle::try_current().is_err() => Some(home.enter()),
            (None, _) => None,
        };
        call()
    }
}
