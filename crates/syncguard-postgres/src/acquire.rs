//! Granting.

use std::mem::replace;

use sqlx::postgres::PgRow;
use syncguard_core::{
    AcquireOutcome, AcquireRequest, Capabilities, Fence, Grant, Holder, Mode, Owner,
};

use crate::{
    backend::Store,
    error::{Failure, NOT_NULL_VIOLATION, UNIQUE_VIOLATION},
    keys::StoredKey,
    lookup::{GRACE_MS, fence, owner, text, timestamp, value},
    statement::Statement,
};

/// How often to queue for a key about which other clients keep deciding.
const MAX_TURNS: usize = 3;

/// Grants the key, or returns who holds it: one statement, which is a transaction by itself.
///
/// The statement first reads who holds the key, so that contenders neither write nor wait. If no one
/// does, it tries the key's advisory lock, and writes the grant if it gets it. If it does not, another
/// client is deciding who gets the key. Then the same statement is sent again behind one that waits
/// for the advisory lock, in one text: it has a snapshot of its own, taken after the waiting, so it
/// finds the other client's grant. Who comes too late writes nothing, and no fence is lost.
///
/// The queue of the advisory lock is what keeps a client from starving beside TypeScript clients,
/// which queue there for each attempt, even at a key that is held.
///
/// Where the key was seen held a moment ago, only the first part of the statement is sent at first.
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
    let mut statement = Statement::write(&store.sql.acquire);
    for _ in 0..=MAX_TURNS {
        let statement = replace(&mut statement, Statement::several(&store.sql.acquire_in_turn));
        let row = store.connections.row(with_values(statement, request, key)).await;
        let row = row.map_err(refusal)?;
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

fn with_values(statement: Statement, request: &AcquireRequest, key: &StoredKey) -> Statement {
    statement
        .text(&key.key)
        .text(request.lock_id.as_str())
        .integer(GRACE_MS)
        .integer(request.ttl.as_millis())
        .text(&key.fence_key)
        .text(&key.user_key)
        .integer(i64::try_from(Fence::LIMIT.number()).unwrap_or(i64::MAX))
        .text_or_null(request.owner.as_ref().map(Owner::as_str))
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
        let holder = Holder::new(grant, owner(row, "owner"), now, Capabilities::GRACE);
        Some(if value(row, "notifies")? { holder } else { holder.silent() })
    } else if grant.expires_at.is_live(now, Capabilities::GRACE) {
        return Ok(Some(AcquireOutcome::Granted(grant)));
    } else {
        // An id names one grant at the most, and this one has had it.
        None
    };
    Ok(Some(AcquireOutcome::Contended { holder }))
}
