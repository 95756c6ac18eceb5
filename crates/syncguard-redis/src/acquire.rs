//! The acquire operation.

use std::time::Duration;

use syncguard_core::{
    Timestamp, Ttl,
    backend::{AcquireOutcome, AcquireRequest, Effect, Entry, Mode},
};

use crate::{
    client::{Answer, Reply},
    error::Failure,
    granting::{granted, refused_by_writer, rejection, take_place},
    holders::refusal,
    index::remember,
    line::EntryWords,
    names::LockName,
    record::{Stored, head, tail},
    release,
    replicas::{ReplicaCount, too_few},
    script::{ACQUIRE, CLAIM},
    share,
    store::Store,
};

/// Grants the key, or reports its current holder, in one round trip.
pub(crate) async fn acquire(
    store: &Store,
    request: &AcquireRequest,
) -> Result<AcquireOutcome, Failure> {
    let lock = store.layout.lock(&request.key)?;
    let entry = store.waiters.entry(&lock);
    let (outcome, place, replicas) = match request.mode {
        Mode::Exclusive => attempt(store, request, &lock, entry.as_ref()).await?,
        Mode::Shared { .. } => share::attempt(store, request, &lock, entry.as_ref()).await?,
    };
    match (&outcome, &entry) {
        (AcquireOutcome::Granted(grant), _) => {
            store.waiters.granted(&lock, request.mode, grant.fence, entry.is_some());
        }
        (AcquireOutcome::Contended { .. }, Some(entry)) => {
            store.waiters.refused(&lock, entry, place);
        }
        (AcquireOutcome::Contended { .. }, None) => {}
    }
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
    entry: Option<&Entry>,
) -> Result<(AcquireOutcome, Option<i64>, ReplicaCount), Failure> {
    let fence = store.layout.fence(&request.key, lock)?;
    let id_entry = store.layout.id_entry(lock, request.lock_id);
    let (head, tail) = (head(request.lock_id), tail(&request.key, request.owner.as_ref()));
    let (ttl, lifetime) =
        (request.ttl.as_millis().to_string(), store.options.lifetime(request.ttl));
    let shared = lock.shared();
    // An announcement never has to outlast the longest grant, and its end must be a number.
    let announce = request.announce.unwrap_or_default().min(Ttl::MAX.as_duration());
    let announce = announce.as_millis().to_string();
    let words = EntryWords::new(lock, entry);
    let [mark, line] = &words.keys;
    let keys = [lock.as_str(), &id_entry, &shared, &fence, mark, line];
    let seed = store.options.seeded_counter_lifetime();
    let arguments = [
        head.as_str(),
        &ttl,
        &lifetime,
        &tail,
        &announce,
        seed.as_deref().unwrap_or_default(),
        store.waiters.name(),
        &words.place,
        &words.fence,
    ];
    // The server copies each word into the script, so those that change nothing are left out.
    let (keys, arguments) = match (entry, &seed, request.announce) {
        (None, None, None) => (&keys[..4], &arguments[..4]),
        (None, None, Some(_)) => (&keys[..4], &arguments[..5]),
        (None, Some(_), _) => (&keys[..4], &arguments[..6]),
        (Some(_), _, _) => (&keys[..], &arguments[..]),
    };
    let (script, replicas) =
        (if request.creates_counter { &ACQUIRE } else { &CLAIM }, store.options.replicas);
    let Answer { reply, replicas } =
        store.client.replicated(script, keys, arguments, replicas).await?;
    let (reply, place) = take_place(reply);
    outcome_of(store, request, reply).map(|outcome| (outcome, place, replicas))
}

fn outcome_of(
    store: &Store,
    request: &AcquireRequest,
    reply: Reply,
) -> Result<AcquireOutcome, Failure> {
    match reply.list() {
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
            Ok(refused_by_writer(store, *now, record, kept_for))
        }
        [Reply::Integer(now), Reply::Text(head), kept_for, Reply::Integer(count)] => {
            let now = Timestamp::from_unix_millis(*now);
            let kept_for = u64::try_from(kept_for.integer().unwrap_or_default()).unwrap_or(0);
            let free = now.later_by(Duration::from_millis(kept_for));
            Ok(AcquireOutcome::Contended { holder: refusal(head, now, *count, free) })
        }
        _ => Err(rejection(&reply)),
    }
}

/// Releases a grant that does not count. Only if that release is answered is it certain that
/// nothing has happened except a gap in the fences; otherwise the outcome is unknown.
async fn undo_grant(
    store: &Store,
    request: &AcquireRequest,
    lock: &LockName,
    mut why: Failure,
) -> Failure {
    if release::release_lock(store, lock, request.lock_id, Some(request.mode)).await.is_ok()
        && let Failure::Replicas { effect, .. } | Failure::Uncounted { effect, .. } = &mut why
    {
        *effect = Effect::NotApplied;
    }
    why
}
