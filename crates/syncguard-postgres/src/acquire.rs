//! Granting.

use sqlx::postgres::PgRow;
use syncguard_core::{
    AcquireOutcome, AcquireRequest, Capabilities, Fence, Grant, Holder, Mode, Owner,
};

use crate::{
    backend::Store,
    error::{Failure, NOT_NULL_VIOLATION, UNIQUE_VIOLATION},
    keys::StoredKey,
    lookup::{GRACE_MS, fence, owner, text, timestamp},
    statement::Statement,
};

/// How often to ask for a key that was free when the statement began and taken when its turn came.
const ROUNDS: usize = 4;

/// Grants the key, or says who has it: one statement, which is a transaction by itself.
///
/// The statement reads what stands first, so that contenders neither write nor queue. Where nothing
/// does, it queues for the key's advisory lock and writes, on conditions that are tested on the
/// latest versions of the rows. If they do not hold, the key has changed hands while it queued, and
/// asking again tells who has it now.
///
/// Where the key was seen held a moment ago, only its first part is sent at first.
pub(crate) async fn acquire(
    store: &Store,
    request: &AcquireRequest,
) -> Result<AcquireOutcome, Failure> {
    if request.mode == Mode::Shared {
        return Err(Failure::SharedMode);
    }
    let key = StoredKey::of(&request.key)?;
    let outcome = attempt(store, request, &key).await?;
    match &outcome {
        AcquireOutcome::Contended { holder: Some(Holder { free_in: Some(free_in), .. }) } => {
            store.sightings.note(&key.key, *free_in);
        }
        _ => store.sightings.forget(&key.key),
    }
    Ok(outcome)
}

async fn attempt(
    store: &Store,
    request: &AcquireRequest,
    key: &StoredKey,
) -> Result<AcquireOutcome, Failure> {
    if store.sightings.is_held(&key.key) {
        let row = store.connections.row(look(store, request, key)).await?;
        if let Some(outcome) = standing(&row, request)? {
            return Ok(outcome);
        }
    }
    for _ in 0..ROUNDS {
        let row = store.connections.row(statement(store, request, key)).await.map_err(refusal)?;
        if let Some(outcome) = standing(&row, request)? {
            return Ok(outcome);
        }
        if let Some(fence) = fence(&row, "granted_fence")? {
            let grant = Grant { fence, expires_at: timestamp(&row, "granted_expires_at_ms")? };
            return Ok(AcquireOutcome::Granted(grant));
        }
    }
    Ok(AcquireOutcome::Contended { holder: None })
}

fn look(store: &Store, request: &AcquireRequest, key: &StoredKey) -> Statement {
    Statement::read(&store.sql.stand)
        .text(&key.key)
        .text(request.lock_id.as_str())
        .integer(GRACE_MS)
}

fn statement(store: &Store, request: &AcquireRequest, key: &StoredKey) -> Statement {
    Statement::write(&store.sql.acquire)
        .text(&key.key)
        .text(request.lock_id.as_str())
        .integer(GRACE_MS)
        .integer(request.ttl.as_millis())
        .text(&key.fence_key)
        .text(&key.user_key)
        .text_or_null(request.owner.as_ref().map(Owner::as_str))
        .integer(i64::try_from(Fence::LIMIT.number()).unwrap_or(i64::MAX))
        .text(&store.lock_timeout)
}

/// Tells what a violated constraint means. Either way the statement was undone as a whole.
fn refusal(failure: Failure) -> Failure {
    match failure.state() {
        // The other two unique indexes are met with ON CONFLICT, so it is that of the ids.
        Some(UNIQUE_VIOLATION) => Failure::Abandoned,
        // Of what is written, the counter alone can be NULL: it is, instead of passing its limit.
        Some(NOT_NULL_VIOLATION) => Failure::FenceLimit,
        _ => failure,
    }
}

/// Reads what stands in the way, which may be the id's own grant.
fn standing(row: &PgRow, request: &AcquireRequest) -> Result<Option<AcquireOutcome>, Failure> {
    let Some(lock_id) = text(row, "lock_id") else {
        return Ok(None);
    };
    let fence = fence(row, "fence")?.ok_or(Failure::Unreadable("fence"))?;
    let grant = Grant { fence, expires_at: timestamp(row, "expires_at_ms")? };
    let now = timestamp(row, "now_ms")?;
    let holder = if lock_id != request.lock_id.as_str() {
        Some(Holder::new(grant, owner(row, "owner"), now, Capabilities::GRACE))
    } else if grant.expires_at.is_live(now, Capabilities::GRACE) {
        return Ok(Some(AcquireOutcome::Granted(grant)));
    } else {
        // An id names one grant at the most, and this one has had it.
        None
    };
    Ok(Some(AcquireOutcome::Contended { holder }))
}
