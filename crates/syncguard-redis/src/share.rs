//! The acquire operation in shared mode.

use syncguard_core::{
    Timestamp,
    backend::{AcquireOutcome, AcquireRequest, Entry, permits_differ},
};

use crate::{
    client::{Answer, Reply},
    error::Failure,
    granting::{granted, refused_by_writer, rejection, take_place},
    holders::{announced, grant, head_tail, holder_tail, permits, refusal},
    line::EntryWords,
    names::LockName,
    record::head,
    replicas::ReplicaCount,
    script::SHARE,
    store::Store,
};

/// Grants the key beside its other holders, or reports who keeps it, in one round trip.
pub(crate) async fn attempt(
    store: &Store,
    request: &AcquireRequest,
    lock: &LockName,
    entry: Option<&Entry>,
) -> Result<(AcquireOutcome, Option<i64>, ReplicaCount), Failure> {
    let fence = store.layout.fence(&request.key, lock)?;
    let id_entry = store.layout.id_entry(lock, request.lock_id);
    let (head, all, own) =
        (head(request.lock_id), head_tail(&request.key), holder_tail(request.owner.as_ref()));
    let (ttl, lifetime) =
        (request.ttl.as_millis().to_string(), store.options.lifetime(request.ttl));
    let (permits, shared) = (permits(request.mode), lock.shared());
    let words = EntryWords::new(lock, entry);
    let [mark, line] = &words.keys;
    let keys = [lock.as_str(), &id_entry, &shared, &fence, mark, line];
    let seed = store.options.seeded_counter_lifetime();
    let arguments = [
        head.as_str(),
        &ttl,
        &lifetime,
        &all,
        &own,
        &permits,
        seed.as_deref().unwrap_or_default(),
        store.waiters.name(),
        &words.place,
        &words.fence,
    ];
    let (keys, arguments) = match (entry, &seed) {
        (None, None) => (&keys[..4], &arguments[..6]),
        (None, Some(_)) => (&keys[..4], &arguments[..7]),
        (Some(_), _) => (&keys[..], &arguments[..]),
    };
    let replicas = store.options.replicas;
    let Answer { reply, replicas } =
        store.client.replicated(&SHARE, keys, arguments, replicas).await?;
    let (reply, place) = take_place(reply);
    outcome_of(store, request, reply).map(|outcome| (outcome, place, replicas))
}

fn outcome_of(
    store: &Store,
    request: &AcquireRequest,
    reply: Reply,
) -> Result<AcquireOutcome, Failure> {
    let garbled = || Failure::Garbled("an acquire");
    match reply.list() {
        [Reply::Integer(fence), Reply::Integer(now)] => {
            let now = Timestamp::from_unix_millis(*now);
            granted(*fence, now.after(request.ttl))
        }
        // The id is a holder, so the error must not claim that nothing was applied.
        [Reply::Integer(_), Reply::Text(holder)] => {
            grant(holder).map(AcquireOutcome::Granted).ok_or_else(garbled)
        }
        [Reply::Integer(now), Reply::Text(record), kept_for] => {
            Ok(refused_by_writer(store, *now, record, kept_for))
        }
        [Reply::Integer(now), Reply::Text(head), Reply::Integer(count), Reply::Integer(free)] => {
            let (now, free) =
                (Timestamp::from_unix_millis(*now), Timestamp::from_unix_millis(*free));
            let holder = match head.as_str() {
                "" => Some(announced(request.mode, now, free)),
                head => refusal(head, now, *count, free),
            };
            match &holder {
                Some(held) if *count > 0 && held.mode != request.mode => {
                    Err(permits_differ(request.mode, held.mode).into())
                }
                _ => Ok(AcquireOutcome::Contended { holder }),
            }
        }
        _ => Err(rejection(&reply)),
    }
}
