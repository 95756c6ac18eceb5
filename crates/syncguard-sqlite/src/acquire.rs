//! Granting.

use sqlx::Row;
use syncguard_core::{
    AcquireOutcome, AcquireRequest, Capabilities, Fence, Grant, Holder, Mode, Owner,
};

use crate::{
    error::Failure,
    lookup::{GRACE_MS, fence, owner, text, timestamp},
    statement::Statement,
    store::Store,
    worker::Ticket,
};

/// How often to look again at a key that was free when it was read and taken when it was written.
const ROUNDS: usize = 4;

/// Grants the key, or says who has it.
///
/// The read comes first so that contenders, however many, do not take the write lock. It decides
/// nothing in the caller's favour: the write tests everything again. Where the write finds
/// otherwise than the read, the next read tells why.
pub(crate) async fn acquire(
    store: &Store,
    ticket: &Ticket,
    request: &AcquireRequest,
) -> Result<AcquireOutcome, Failure> {
    if request.mode == Mode::Shared {
        return Err(Failure::SharedMode);
    }
    for _ in 0..ROUNDS {
        if let Some(outcome) = standing(store, ticket, request).await? {
            return Ok(outcome);
        }
        if let Some(grant) = grant(store, ticket, request).await? {
            return Ok(AcquireOutcome::Granted(grant));
        }
    }
    Ok(AcquireOutcome::Contended { holder: None })
}

/// Reads how the key stands: `None` if it can be granted.
async fn standing(
    store: &Store,
    ticket: &Ticket,
    request: &AcquireRequest,
) -> Result<Option<AcquireOutcome>, Failure> {
    let statement = Statement::new(include_str!("sql/standing.sql"))
        .text(request.key.as_str())
        .text(request.lock_id.as_str());
    let row = store.reader.row(statement, ticket).await?.ok_or(Failure::Unreadable("clock"))?;
    if row.try_get("abandoned").unwrap_or(true) {
        return Err(Failure::Abandoned);
    }
    let now = timestamp(&row, "now_ms")?;
    let expires_at = timestamp(&row, "expires_at_ms").ok();
    match expires_at.filter(|expires_at| expires_at.is_live(now, Capabilities::GRACE)) {
        Some(expires_at) => {
            let grant = Grant { fence: fence(&row)?, expires_at };
            if text(&row, "lock_id") == Some(request.lock_id.as_str()) {
                return Ok(Some(AcquireOutcome::Granted(grant)));
            }
            let holder = Holder::new(grant, owner(&row), now, Capabilities::GRACE);
            Ok(Some(AcquireOutcome::Contended { holder: Some(holder) }))
        }
        None if fence(&row).is_ok_and(|last| last.next().is_none()) => Err(Failure::FenceLimit),
        None => Ok(None),
    }
}

/// Writes the grant if nothing stands against it.
async fn grant(
    store: &Store,
    ticket: &Ticket,
    request: &AcquireRequest,
) -> Result<Option<Grant>, Failure> {
    let statement = Statement::new(include_str!("sql/acquire.sql"))
        .text(request.key.as_str())
        .text(request.lock_id.as_str())
        .text_or_null(request.owner.as_ref().map(Owner::as_str))
        .integer(request.ttl.as_millis())
        .integer(GRACE_MS)
        .integer(i64::try_from(Fence::LIMIT.number()).unwrap_or(i64::MAX));
    let Some(row) = store.writer.row(statement, ticket).await? else {
        return Ok(None);
    };
    Ok(Some(Grant { fence: fence(&row)?, expires_at: timestamp(&row, "expires_at_ms")? }))
}
