//! Acquiring locks in shared mode, and announcing that a writer waits for one.

use std::time::Duration;

use sqlx::postgres::PgRow;
use syncguard_core::{
    Fence, LockId, Owner,
    backend::{AcquireOutcome, AcquireRequest, Admission, Capabilities},
};

use crate::{
    error::{Failure, no_random_bytes},
    granting::{exclusive_grant, exclusive_holder, read_grant, violation},
    names::{StoredKey, member_key},
    row::{GRACE_MS, text, timestamp},
    sharing::sharing_now,
    statement::Statement,
    store::Store,
};

/// Grants the key in shared mode, or returns its holders: one call of a function, which is a
/// transaction by itself.
///
/// The function first looks at the key without a lock. If the request is refused, that is all. If
/// not, it waits for the advisory lock of the key, locks the key's row, and looks again. It then
/// decides and writes (see `schema_share.sql`). Unlike an exclusive acquire, it waits for the
/// advisory lock instead of trying it: others that have the lock are mostly holders that enter or
/// leave, and each of them may be granted. Whoever is refused after the wait has written nothing,
/// and no fence is lost.
///
/// The database decides to grant. The rules by which it refuses are read here from what it saw, so
/// that [`SharedHolders`](syncguard_core::backend::SharedHolders) describes the refusal.
pub(crate) async fn share(
    store: &Store,
    request: &AcquireRequest,
    key: &StoredKey,
) -> Result<AcquireOutcome, Failure> {
    if !store.sql.columns.has_shared_mode() {
        return Err(Failure::SharedMode);
    }
    let head = LockId::mint().map_err(no_random_bytes)?;
    let permits = request.mode.permits().map_or(0, |permits| permits.get().into());
    let statement = Statement::write(&store.sql.share)
        .text(&key.key)
        .text(request.lock_id.as_str())
        .integer(GRACE_MS)
        .integer(request.ttl.as_millis())
        .text(&key.fence_key)
        .text(&key.user_key)
        .integer(i64::try_from(Fence::LIMIT.number()).unwrap_or(i64::MAX))
        .text_or_null(request.owner.as_ref().map(Owner::as_str))
        .integer(permits)
        .text(head.as_str())
        .text(&member_key(request.lock_id));
    let row = store.connections.row(statement).await.map_err(violation)?;
    if let Some(grant) = read_grant(&row)? {
        return Ok(AcquireOutcome::Granted(grant));
    }
    refusal(&row, request, key)
}

/// Reads why nothing was granted. The id may have the grant already.
fn refusal(
    row: &PgRow,
    request: &AcquireRequest,
    key: &StoredKey,
) -> Result<AcquireOutcome, Failure> {
    if let Some((holders, now)) = sharing_now(row)? {
        match holders.admit(request.lock_id, request.mode, now)? {
            Admission::Held(grant) => return Ok(AcquireOutcome::Granted(grant)),
            Admission::Refused(holder) => {
                return Ok(AcquireOutcome::Contended { holder: Some(holder) });
            }
            Admission::Admitted => {}
        }
    } else if text(row, "lock_id").is_some() {
        let (grant, now) = (exclusive_grant(row)?, timestamp(row, "now_ms")?);
        if grant.expires_at.is_live(now, Capabilities::GRACE) {
            let holder = Some(exclusive_holder(row, grant, now)?);
            return Ok(AcquireOutcome::Contended { holder });
        }
    }
    match text(row, "id_key") {
        Some(id_key) if id_key != key.key => Err(Failure::Abandoned),
        // An id names at most one grant, and this id's grant has ended.
        _ => Ok(AcquireOutcome::Contended { holder: None }),
    }
}

/// Keeps new shared holders of the key out for `time`.
///
/// This is a second statement, sent only by a writer that shared holders have refused and that goes
/// on waiting. An attempt that is granted, or refused by another writer, does not pay for it. It
/// does not matter what happens in between. If the last holder leaves, the announcement keeps new
/// ones out until the writer, which is notified, tries again. If a new one enters, it is one of
/// those that the announcement does not affect.
pub(crate) async fn announce(
    store: &Store,
    request: &AcquireRequest,
    key: &StoredKey,
    time: Duration,
) -> Result<(), Failure> {
    let statement = Statement::write(&store.sql.announce)
        .text(&key.key)
        .text(request.lock_id.as_str())
        .integer(i64::try_from(time.as_millis()).unwrap_or(i64::MAX).min(MAX_ANNOUNCEMENT_MS))
        .multi_statement();
    store.connections.row(statement).await.map(drop)
}

/// The longest announcement, which leaves room for an addition: a hundred years.
const MAX_ANNOUNCEMENT_MS: i64 = 100 * 366 * 24 * 3_600_000;
