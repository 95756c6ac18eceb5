use std::sync::Arc;

use tokio::runtime::Handle;

use super::{
    announcing::PendingAnnouncement,
    cleanup::{Action, Cleanup},
    guard::LockGuard,
    lease::Lease,
    lease_state::LeaseState,
    options::LockOptions,
    shared::Shared,
    validity::Validity,
};
use crate::{
    BootInstant, Error, ErrorKind, Fence, Holder, LockId, Operation,
    backend::{AcquireOutcome, AcquireRequest, Detached, Grant, LockBackend},
};

/// The outcome of one attempt.
pub(crate) enum AttemptOutcome {
    Granted(LockGuard),
    Contended(Option<Holder>),
}

/// Sends a request to the store, and repeats it once if the first reply was lost.
///
/// **Invariant:** whatever happens to the future, to its caller or to the runtime, a grant that was
/// made, or may still be made, ends up in a guard or in a [`Cleanup`]. If dropped while a request
/// is in flight, the attempt continues in the background, and the guard that no one receives
/// releases itself.
///
/// An announcement that the store records is reported to its wait, unless a reply was lost: then
/// the id is abandoned, which withdraws it.
///
/// An error with "not applied" set is trusted: the attempt ends with it, without a second request
/// and without an abandon, and a waiter retries with a new id.
pub(crate) fn start(
    shared: &Arc<Shared>,
    options: &LockOptions,
    announcement: Option<PendingAnnouncement>,
    home: &Handle,
) -> Detached<Result<AttemptOutcome, Error>> {
    shared.detached(home, attempt(shared.clone(), options.clone(), announcement, home.clone()))
}

async fn attempt(
    shared: Arc<Shared>,
    options: LockOptions,
    announcement: Option<PendingAnnouncement>,
    home: Handle,
) -> Result<AttemptOutcome, Error> {
    let lock_id = LockId::mint().map_err(lock_id_error)?;
    let request = AcquireRequest::new(options.key.clone(), lock_id, options.ttl)
        .with_owner(Some(options.owner.clone()))
        .with_mode(options.mode)
        .with_announcement(announcement.as_ref().map(PendingAnnouncement::duration));
    let request = if options.creates_counter { request } else { request.without_new_counter() };
    let sent = shared.clock.now();
    let mut pending = AbandonOnDrop::new(&shared, &request, &home);
    let mut reply = send_acquire(&shared, &request, &home).await;
    let reply_lost = reply.as_ref().is_err_and(Error::may_have_applied);
    if reply_lost {
        // With the same id: if the first request was granted, this returns that grant, with its
        // fence. With a new id, the caller's own earlier grant would be contention.
        reply = send_acquire(&shared, &request, &home).await;
    }
    match reply {
        Ok(AcquireOutcome::Granted(grant)) => {
            pending.disarm();
            if !reply_lost {
                // A repeated request returns a grant that was made before.
                shared.record_store_time(grant.expires_at, options.ttl, sent);
            }
            let action = if reply_lost { Action::Abandon } else { Action::Release };
            let guard = guard(&shared, options, &request, &home, grant, sent, action);
            accept(guard, shared.grace).map(AttemptOutcome::Granted)
        }
        // Nothing is granted now, but the first request may still be in flight if its reply was
        // lost: its id is abandoned on drop.
        Ok(AcquireOutcome::Contended { holder }) => {
            if !reply_lost {
                pending.disarm();
                // An exclusive holder's key takes no announcement.
                let is_recorded = holder.as_ref().is_none_or(|holder| holder.mode.is_shared());
                if let Some(announcement) = announcement.filter(|_| is_recorded) {
                    announcement.announced(lock_id, &shared, &home);
                }
            }
            Ok(AttemptOutcome::Contended(holder))
        }
        // An error that is not retryable keeps its kind. The id is abandoned on drop.
        Err(error) if error.may_have_applied() && !error.is_retryable() => {
            Err(error.with_key(&options.key))
        }
        Err(error) if reply_lost || error.may_have_applied() => {
            Err(ambiguous(&shared, &options, error))
        }
        Err(error) => {
            pending.disarm();
            Err(error.with_key(&options.key))
        }
    }
}

fn lock_id_error(source: std::io::Error) -> Error {
    Error::new(ErrorKind::Internal)
        .with_operation(Operation::Acquire)
        .with_detail("the operating system returned no random bytes")
        .with_source(source)
        .not_applied()
}

async fn send_acquire(
    shared: &Shared,
    request: &AcquireRequest,
    home: &Handle,
) -> Result<AcquireOutcome, Error> {
    let acquire = shared.backend.acquire(request);
    shared.send_with_timeout(Operation::Acquire, shared.request_timeout, home, acquire).await
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
    // Counted from the first request: if its reply was lost, the stored grant may be that old.
    let validity = Validity::granted(sent, options.ttl, options.max_hold);
    let lease =
        LeaseState::new(shared.clone(), home.clone(), request, grant, sent, validity, action);
    LockGuard::new(Lease::new(lease), options.renew.unwrap_or_default(), options.scope)
}

/// Rejects a grant that arrives after its own deadline; dropping the guard releases it.
fn accept(guard: LockGuard, grace: std::time::Duration) -> Result<LockGuard, Error> {
    if guard.is_valid() {
        return Ok(guard);
    }
    Err(Error::new(ErrorKind::Ambiguous)
        .with_operation(Operation::Acquire)
        .with_key(guard.key())
        .with_lock_id(guard.lock_id())
        .with_detail("the grant arrived after its deadline")
        .with_free_within(guard.ttl().as_duration() + grace))
}

fn ambiguous(shared: &Shared, options: &LockOptions, cause: Error) -> Error {
    Error::new(ErrorKind::Ambiguous)
        .with_operation(Operation::Acquire)
        .with_key(&options.key)
        .with_detail("the store answered neither the request nor its retry")
        .with_free_within(options.ttl.as_duration() + shared.grace)
        .with_source(cause)
}

/// A request whose outcome is not known yet. If dropped before it is disarmed, it abandons the id.
struct AbandonOnDrop<'a> {
    shared: &'a Arc<Shared>,
    request: &'a AcquireRequest,
    home: &'a Handle,
    armed: bool,
}

impl<'a> AbandonOnDrop<'a> {
    fn new(shared: &'a Arc<Shared>, request: &'a AcquireRequest, home: &'a Handle) -> Self {
        Self { shared, request, home, armed: true }
    }

    fn disarm(&mut self) {
        self.armed = false;
    }
}

impl Drop for AbandonOnDrop<'_> {
    fn drop(&mut self) {
        if self.armed {
            let AcquireRequest { key, lock_id, mode, ttl, .. } = self.request.clone();
            let cleanup = Cleanup {
                key,
                lock_id,
                mode,
                ttl,
                action: Action::Abandon,
                keep_until: None,
                counted: false,
            };
            cleanup.start(self.shared, self.home);
        }
    }
}
