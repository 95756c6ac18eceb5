//! Acquiring locks.

use sqlx::Row;
use syncguard_core::{
    Fence, Holder, Owner,
    backend::{AcquireOutcome, AcquireRequest, Capabilities, Effect, Grant},
};

use crate::{
    error::Failure,
    row::{GRACE_MS, fence, is_null, stored_record, timestamp},
    statement::Statement,
    store::Store,
    worker::Ticket,
};

/// The maximum number of attempts on a key that was free when read and held when written.
const MAX_ATTEMPTS: usize = 4;

/// Grants the key, or returns its holder.
///
/// The read comes first so that contenders, however many, do not take the write lock. It never
/// grants anything by itself: the write tests everything again. If the write contradicts the read,
/// the next read shows why.
pub(crate) async fn acquire(
    store: &Store,
    ticket: &Ticket,
    request: &AcquireRequest,
) -> Result<AcquireOutcome, Failure> {
    if request.mode.is_shared() {
        return Err(Failure::SharedMode);
    }
    for _ in 0..MAX_ATTEMPTS {
        let counted = match read_state(store, ticket, request).await? {
            KeyState::Decided(outcome) => return Ok(outcome),
            KeyState::Free { counted } => counted,
        };
        if let Some(grant) = grant(store, ticket, request, counted).await? {
            return Ok(AcquireOutcome::Granted(grant));
        }
    }
    Ok(AcquireOutcome::Contended { holder: None })
}

/// The state of a key.
enum KeyState {
    Decided(AcquireOutcome),
    /// It can be granted. `counted` is the fence of its last grant.
    Free {
        counted: Option<Fence>,
    },
}

/// Reads the state of the key. This detects a counter that cannot be read, or is at its limit,
/// before anything is written.
async fn read_state(
    store: &Store,
    ticket: &Ticket,
    request: &AcquireRequest,
) -> Result<KeyState, Failure> {
    let statement = Statement::new(include_str!("sql/key_state.sql"))
        .text(request.key.as_str())
        .text(request.lock_id.as_str());
    let row = store.reader.row(statement, ticket).await?.ok_or(Failure::Unreadable("clock"))?;
    if row.try_get("abandoned").unwrap_or(true) {
        return Err(Failure::Abandoned);
    }
    if is_null(&row, "key") {
        return Ok(KeyState::Free { counted: None });
    }
    if let Some(lock) = stored_record(&row)? {
        let now = lock.observed_at;
        if lock.expires_at.is_live(now, Capabilities::GRACE) {
            let grant = Grant { fence: lock.fence, expires_at: lock.expires_at };
            return Ok(KeyState::Decided(if lock.lock_id == request.lock_id {
                AcquireOutcome::Granted(grant)
            } else {
                let holder = Holder::new(grant, lock.owner, now, Capabilities::GRACE);
                AcquireOutcome::Contended { holder: Some(holder) }
            }));
        }
    }
    let counted = fence(&row)?;
    counted.next().ok_or(Failure::FenceLimit)?;
    Ok(KeyState::Free { counted: Some(counted) })
}

/// Writes the grant if nothing prevents it.
async fn grant(
    store: &Store,
    ticket: &Ticket,
    request: &AcquireRequest,
    counted: Option<Fence>,
) -> Result<Option<Grant>, Failure> {
    let statement = Statement::new(include_str!("sql/acquire.sql"))
        .text(request.key.as_str())
        .text(request.lock_id.as_str())
        .text_or_null(request.owner.as_ref().map(Owner::as_str))
        .integer(request.ttl.as_millis())
        .integer(GRACE_MS)
        .integer_or_null(counted.and_then(|fence| i64::try_from(fence.number()).ok()));
    let Some(row) = store.writer.row(statement, ticket).await? else {
        return Ok(None);
    };
    let grant = || Ok(Grant { fence: fence(&row)?, expires_at: timestamp(&row, "expires_at_ms")? });
    grant().map(Some).map_err(|failure: Failure| failure.after(Effect::MayHaveApplied))
}
