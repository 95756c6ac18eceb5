//! The acquire operation.

use syncguard_core::{
    Fence, Timestamp,
    backend::{AcquireOutcome, AcquireRequest, Effect, Grant},
};

use crate::{
    client::{Answer, Reply},
    error::Failure,
    index::remember,
    names::LockName,
    options::Counters,
    record::{Stored, head, tail},
    release,
    replicas::{ReplicaCount, too_few},
    script::{ACQUIRE, reply},
    store::Store,
};

/// Grants the key, or reports its current holder, in one round trip.
pub(crate) async fn acquire(
    store: &Store,
    request: &AcquireRequest,
) -> Result<AcquireOutcome, Failure> {
    if request.mode.is_shared() {
        return Err(Failure::SharedMode);
    }
    let lock = store.layout.lock(&request.key)?;
    let (outcome, replicas) = attempt(store, request, &lock).await?;
    if let AcquireOutcome::Granted(_) = outcome {
        if let Some(uncertain) = too_few(&store.options, "grant", replicas) {
            return Err(undo_grant(store, request, &lock, uncertain).await);
        }
        remember(store, &lock, request.lock_id, request.ttl).await;
    }
    Ok(outcome)
}

async fn attempt(
    store: &Store,
    request: &AcquireRequest,
    lock: &LockName,
) -> Result<(AcquireOutcome, ReplicaCount), Failure> {
    let fence = store.layout.fence(&request.key, lock)?;
    let id_entry = store.layout.id_entry(lock, request.lock_id);
    let (head, tail) = (head(request.lock_id), tail(&request.key, request.owner.as_ref()));
    let (ttl, lifetime) =
        (request.ttl.as_millis().to_string(), store.options.lifetime(request.ttl));
    let keys = [lock.as_str(), &fence, &id_entry];
    let arguments = [head.as_str(), &ttl, &lifetime, &tail, "seed"];
    let arguments = match store.options.counters {
        Counters::FromOne => &arguments[..4],
        Counters::FromServerTime => &arguments,
    };
    let replicas = store.options.replicas;
    let Answer { reply, replicas } =
        store.client.replicated(&ACQUIRE, &keys, arguments, replicas).await?;
    outcome_of(store, request, reply).map(|outcome| (outcome, replicas))
}

fn outcome_of(
    store: &Store,
    request: &AcquireRequest,
    reply: Reply,
) -> Result<AcquireOutcome, Failure> {
    match reply {
        Reply::Integer(reply::ABANDONED) => Err(Failure::Abandoned),
        Reply::Integer(reply::FENCE_LIMIT) => Err(Failure::FenceLimit),
        Reply::Integer(reply::UNREADABLE) => Err(Failure::Unreadable("the record of the lock")),
        Reply::List(answer) => match answer.as_slice() {
            [Reply::Integer(fence), Reply::Integer(now)] => {
                let now = Timestamp::from_unix_millis(*now);
                granted(*fence, now.after(request.ttl))
            }
            [Reply::Integer(_), Reply::Text(record)] => {
                // The id holds the lock, so the error must not claim that nothing was applied.
                let grant = Stored::parse(record).and_then(|stored| stored.grant());
                grant.map(AcquireOutcome::Granted).map_err(|_| Failure::Garbled("an acquire"))
            }
            [Reply::Integer(now), Reply::Text(record), kept_for] => {
                let (now, grace) = (Timestamp::from_unix_millis(*now), store.options.grace);
                let kept_for = kept_for.integer().unwrap_or(-1);
                let stored = Stored::parse(record).ok();
                let holder = stored.map(|stored| stored.holder(now, kept_for, grace));
                Ok(AcquireOutcome::Contended { holder })
            }
            _ => Err(Failure::Garbled("an acquire")),
        },
        _ => Err(Failure::Garbled("an acquire")),
    }
}

fn granted(fence: i64, expires_at: Timestamp) -> Result<AcquireOutcome, Failure> {
    let fence = u64::try_from(fence).ok().and_then(|number| Fence::new(number).ok());
    let fence = fence.ok_or(Failure::Garbled("an acquire"))?;
    Ok(AcquireOutcome::Granted(Grant { fence, expires_at }))
}

/// Releases a grant that does not count. Only if that release is answered is it certain that
/// nothing has happened except a gap in the fences; otherwise the outcome is unknown.
async fn undo_grant(
    store: &Store,
    request: &AcquireRequest,
    lock: &LockName,
    mut why: Failure,
) -> Failure {
    if release::release_lock(store, lock, request.lock_id).await.is_ok()
        && let Failure::Replicas { effect, .. } | Failure::Uncounted { effect, .. } = &mut why
    {
        *effect = Effect::NotApplied;
    }
    why
}
