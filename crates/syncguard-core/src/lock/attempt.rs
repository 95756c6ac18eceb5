use std::sync::Arc;

use tokio::runtime::Handle;

use super::{
    cleanup::{Action, Cleanup},
    detached::Detached,
    guard::LockGuard,
    lease::Lease,
    options::LockOptions,
    shared::Shared,
    validity::Validity,
};
use crate::{
    AcquireOutcome, AcquireRequest, BootInstant, Error, ErrorKind, Fence, Grant, Holder,
    LockBackend, LockId, Operation,
};

/// How one attempt ended.
pub(crate) enum Attempted {
    Granted(LockGuard),
    Contended(Option<Holder>),
}

/// Asks the store once, and once more if the first answer was lost.
///
/// **Invariant:** whatever happens to the future, to its caller or to the runtime, a grant that was
/// made, or may yet be made, ends up in a guard or in a [`Cleanup`]. If dropped while a request is
/// in flight, the attempt continues in the background, and the guard that no one receives releases
/// itself.
///
/// An error with "not applied" set is trusted: the attempt ends with it, without a second request
/// and without an abandon, and a waiter tries again with a new id.
pub(crate) fn start(
    shared: &Arc<Shared>,
    options: &LockOptions,
    home: &Handle,
) -> Detached<Result<Attempted, Error>> {
    shared.detached(home, attempt(shared.clone(), options.clone(), home.clone()))
}

async fn attempt(
    shared: Arc<Shared>,
    options: LockOptions,
    home: Handle,
) -> Result<Attempted, Error> {
    let lock_id = LockId::mint().map_err(no_lock_id)?;
    let request = AcquireRequest::new(options.key.clone(), lock_id, options.ttl)
        .with_owner(Some(options.owner.clone()))
        .with_mode(options.mode);
    let sent = shared.clock.now();
    let mut undecided = AbandonOnDrop::new(&shared, &request, &home);
    let mut answer = ask(&shared, &request, &home).await;
    let lost = answer.as_ref().is_err_and(Error::may_have_applied);
    if lost {
        // The same id again: if the first request was granted, this returns that grant, with its
        // fence. A new id would be refused because of the caller's own earlier grant.
        answer = ask(&shared, &request, &home).await;
    }
    match answer {
        Ok(AcquireOutcome::Granted(grant)) => {
            undecided.settle();
            if !lost {
                // A repeated request returns a grant that was made before.
                shared.answered(grant.expires_at, options.ttl, sent);
            }
            let action = if lost { Action::Abandon } else { Action::Release };
            let guard = guard(&shared, options, &request, &home, grant, sent, action);
            accept(guard, shared.grace).map(Attempted::Granted)
        }
        // Nothing is granted now, but a first request that was lost may still be in flight:
        // its id is abandoned on drop.
        Ok(AcquireOutcome::Contended { holder }) => {
            undecided.settle_unless(lost);
            Ok(Attempted::Contended(holder))
        }
        // An error that is not retryable keeps its kind. The id is abandoned on drop.
        Err(error) if error.may_have_applied() && !error.is_retryable() => {
            Err(error.with_key(&options.key))
        }
        Err(error) if lost || error.may_have_applied() => Err(ambiguous(&shared, &options, error)),
        Err(error) => {
            undecided.settle();
            Err(error.with_key(&options.key))
        }
    }
}

fn no_lock_id(refused: std::io::Error) -> Error {
    Error::new(ErrorKind::Internal, Operation::Acquire)
        .with_detail("the operating system returned no random bytes")
        .with_source(refused)
        .not_applied()
}

async fn ask(
    shared: &Shared,
    request: &AcquireRequest,
    home: &Handle,
) -> Result<AcquireOutcome, Error> {
    let acquire = shared.backend.acquire(request);
    shared.bounded(Operation::Acquire, shared.request_timeout, home, acquire).await
}

fn guard(
    shared: &Arc<Shared>,
    options: LockOptions,
    request: &AcquireRequest,
    home: &Handle,
    grant: Grant,
    sent: BootInstant,
    action: Action,
) -> LockGuard {
    if grant.fence > Fence::WARNING {
        tracing::warn!(
            target: "syncguard",
            { syncguard.key.hash = %options.key, syncguard.fence = %grant.fence },
            "the fence counter nears its limit"
        );
    }
    // Count from the first send: if the first answer was lost, the stored grant may be that old.
    let validity = Validity::granted(sent, options.ttl, options.max_hold);
    let lease = Lease::new(shared.clone(), home.clone(), request, grant, validity, action);
    LockGuard::new(lease, options.renew.unwrap_or_default(), options.scope)
}

/// Refuses a grant that arrives after its own deadline; dropping the guard releases it.
fn accept(guard: LockGuard, grace: std::time::Duration) -> Result<LockGuard, Error> {
    if guard.is_valid() {
        return Ok(guard);
    }
    Err(Error::new(ErrorKind::Ambiguous, Operation::Acquire)
        .with_key(guard.key())
        .with_lock_id(guard.lock_id())
        .with_detail("the grant arrived after its deadline")
        .with_free_within(guard.ttl().as_duration() + grace))
}

fn ambiguous(shared: &Shared, options: &LockOptions, cause: Error) -> Error {
    Error::new(ErrorKind::Ambiguous, Operation::Acquire)
        .with_key(&options.key)
        .with_detail("the store did not answer, nor when asked again")
        .with_free_within(options.ttl.as_duration() + shared.grace)
        .with_source(cause)
}

/// A request whose outcome is not yet known. If dropped before it is settled, it abandons the id.
struct AbandonOnDrop<'a> {
    shared: &'a Arc<Shared>,
    request: &'a AcquireRequest,
    home: &'a Handle,
    open: bool,
}

impl<'a> AbandonOnDrop<'a> {
    fn new(shared: &'a Arc<Shared>, request: &'a AcquireRequest, home: &'a Handle) -> Self {
        Self { shared, request, home, open: true }
    }

    fn settle(&mut self) {
        self.open = false;
    }

    fn settle_unless(&mut self, lost: bool) {
        self.open = lost;
    }
}

impl Drop for AbandonOnDrop<'_> {
    fn drop(&mut self) {
        if self.open {
            let AcquireRequest { key, lock_id, ttl, .. } = self.request.clone();
            let cleanup = Cleanup { key, lock_id, ttl, action: Action::Abandon, keep_until: None };
            cleanup.start(self.shared, self.home);
        }
    }
}
