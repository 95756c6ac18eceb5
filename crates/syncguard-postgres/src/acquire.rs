//! Granting.

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

/// What the attempts do about the advisory lock of the key, one after the other, while other clients keep
/// deciding who gets it.
///
/// The last but one waits in the queue of the advisory lock. That is what keeps a client from starving
/// beside TypeScript clients, which queue there for each attempt, even at a key that is held.
const ATTEMPTS: [Turn; 4] = [Turn::Try, Turn::Try, Turn::Wait, Turn::Try];

/// Whether an attempt waits for the advisory lock of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Try = 0,
    Wait = 1,
}

/// Grants the key, or returns who holds it: one statement, which is a transaction by itself.
///
/// The statement first reads who holds the key, so that contenders neither write nor wait. If no one
/// does, it tries the key's advisory lock, and writes the grant if it gets it. If it does not, another
/// client is deciding who gets the key. Then a statement that writes nothing waits for the decision,
/// and the next attempt finds the other client's grant. Who comes too late writes nothing, and no fence
/// is lost.
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
    for (number, turn) in ATTEMPTS.into_iter().enumerate() {
        if number == 1 {
            store.connections.row(Statement::read(&store.sql.turn).text(&key.key)).await?;
        }
        let row = store.connections.row(statement(store, request, key, turn)).await;
        let row = row.map_err(refusal)?;
        if let Some(outcome) = standing(&row, request)? {
            return Ok(outcome);
        }
        let granted = fence(&row, "granted_fence");
        if let Some(fence) = granted.map_err(|_| Failure::UnreadableAnswer("fence"))? {
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

fn statement(store: &Store, request: &AcquireRequest, key: &StoredKey, turn: Turn) -> Statement {
    Statement::write(&store.sql.acquire)
        .text(&key.key)
        .text(request.lock_id.as_str())
        .integer(GRACE_MS)
        .integer(request.ttl.as_millis())
        .text(&key.fence_key)
        .text(&key.user_key)
        .integer(i64::try_from(Fence::LIMIT.number()).unwrap_or(i64::MAX))
        .text_or_null(request.owner.as_ref().map(Owner::as_str))
        .short(turn as i32)
}

/// Tells what a violated constraint means. Either way the statement was undone as a whole.
fn refusal(failure: Failure) -> Failure {
    match failure.state() {
        // The other two unique indexes are met with ON CONFLICT, so it is that of the ids.
        Some(UNIQUE_VIOLATION) => Failure::Abandoned,
        // Of what is written, the counter alone can be NULL: it is, instead of passing its limit or
        // falling behind.
        Some(NOT_NULL_VIOLATION) => Failure::FenceLimit,
        _ => failure,
    }
}

/// Reads what stands in the way, which may be the id's own grant.
fn standing(row: &PgRow, request: &AcquireRequest) -> Result<Option<AcquireOutcome>, Failure> {
    let Some(lock_id) = text(row, "lock_id") else {
        return Ok(None);
    };
    let is_own = lock_id == request.lock_id.as_str();
    let fence = match fence(row, "fence") {
        Ok(Some(fence)) => fence,
        // The id has the key, or had it.
        _ if is_own => return Err(Failure::UnreadableAnswer("fence")),
        _ => return Err(Failure::Unreadable("fence")),
    };
    let grant = Grant { fence, expires_at: timestamp(row, "expires_at_ms")? };
    let now = timestamp(row, "now_ms")?;
    let holder = if !is_own {
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
