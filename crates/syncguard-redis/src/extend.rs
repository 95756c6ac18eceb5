//! The extend operation.

use syncguard_core::{
    LockId, Timestamp, Ttl,
    backend::{ExtendOutcome, LockRef, NotHeld},
};

use crate::{
    client::Answer,
    error::Failure,
    index::{find, remember},
    names::LockName,
    record::head,
    replicas::too_few,
    script::{EXTEND, reply},
    store::Store,
};

/// Moves the expiry: one round trip if the key is known, two if only the id is.
///
/// If the id does not hold the key, either the hint was wrong or the lock is gone; the index shows
/// which.
pub(crate) async fn extend(
    store: &Store,
    lock: &LockRef,
    ttl: Ttl,
) -> Result<ExtendOutcome, Failure> {
    let hinted = lock.key.as_ref().map(|key| store.layout.lock(key)).transpose()?;
    if let Some(name) = &hinted {
        let outcome = move_expiry(store, name, lock.lock_id, ttl).await?;
        if outcome != ExtendOutcome::NotHeld(NotHeld::NotFound) {
            return Ok(outcome);
        }
    }
    match find(store, lock.lock_id).await? {
        Some(name) if Some(&name) != hinted.as_ref() => {
            move_expiry(store, &name, lock.lock_id, ttl).await
        }
        _ => Ok(ExtendOutcome::NotHeld(NotHeld::NotFound)),
    }
}

async fn move_expiry(
    store: &Store,
    lock: &LockName,
    id: LockId,
    ttl: Ttl,
) -> Result<ExtendOutcome, Failure> {
    let id_entry = store.layout.id_entry(lock, id);
    let (head, ttl_ms, lifetime) =
        (head(id), ttl.as_millis().to_string(), store.options.lifetime(ttl));
    let shared = lock.shared();
    let keys = [lock.as_str(), id_entry.as_str(), &shared];
    let (arguments, replicas) = ([head.as_str(), &ttl_ms, &lifetime], store.options.replicas);
    let Answer { reply, replicas } = store.change(&EXTEND, &keys, &arguments, replicas).await?;
    match reply.integer() {
        Some(reply::NOT_FOUND) => Ok(ExtendOutcome::NotHeld(NotHeld::NotFound)),
        Some(reply::EXPIRED) => Ok(ExtendOutcome::NotHeld(NotHeld::Expired)),
        Some(reply::UNREADABLE) => Err(Failure::UNREADABLE_RECORD),
        Some(reply::UNREADABLE_HOLDERS) => Err(Failure::UNREADABLE_HOLDERS),
        Some(now) => {
            let now = Timestamp::from_unix_millis(now);
            // An extend that only the primary has would be lost in a failover, and the lock with
            // it, while its holder relies on it.
            if let Some(failure) = too_few(&store.options, "extend", replicas) {
                return Err(failure);
            }
            remember(store, lock, id, ttl).await;
            Ok(ExtendOutcome::Extended { expires_at: now.after(ttl) })
        }
        None => Err(Failure::Garbled("an extend")),
    }
}
