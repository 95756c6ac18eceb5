//! Acquiring locks.

use sqlx::sqlite::SqliteRow;
use syncguard_core::{
    Fence, Owner,
    backend::{AcquireOutcome, AcquireRequest, Counters, Effect, Grant},
};

use crate::{
    decision::{Decision, decide},
    error::Failure,
    key_state::KeyState,
    prune::prune_after_claim,
    row::{GRACE_MS, fence, integer, timestamp},
    share::share_or_announce,
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
    for _ in 0..MAX_ATTEMPTS {
        let rows = read(store, ticket, request).await?;
        let outcome = match decide(KeyState::read(&rows)?, request, store.counters)? {
            Decision::Final(outcome) => return Ok(outcome),
            Decision::Grant { counted } => grant(store, ticket, request, counted).await?,
            Decision::Share { .. } | Decision::Announce { .. } => {
                share_or_announce(store, ticket, request).await?
            }
        };
        if let Some(outcome) = outcome {
            if let AcquireOutcome::Granted(grant) = &outcome
                && request.is_uncounted(Some(grant.fence))
            {
                prune_after_claim(store, ticket, request.lock_id).await;
            }
            return Ok(outcome);
        }
    }
    Ok(AcquireOutcome::Contended { holder: None })
}

/// Reads the state of the key. An exclusive request, of which most find no shared holders, reads them
/// only if there are any.
async fn read(
    store: &Store,
    ticket: &Ticket,
    request: &AcquireRequest,
) -> Result<Vec<SqliteRow>, Failure> {
    if !request.mode.is_shared() {
        let statement = Statement::new(include_str!("sql/exclusive_state.sql"))
            .text(request.key.as_str())
            .text(request.lock_id.as_str());
        let rows = store.reader.rows(statement, ticket).await?;
        if !rows.iter().any(|row| integer(row, "is_shared") == Some(1)) {
            return Ok(rows);
        }
    }
    store.reader.rows(KeyState::by_key(&request.key, Some(request.lock_id)), ticket).await
}

/// Writes an exclusive grant if nothing prevents it.
async fn grant(
    store: &Store,
    ticket: &Ticket,
    request: &AcquireRequest,
    counted: Option<Fence>,
) -> Result<Option<AcquireOutcome>, Failure> {
    let statement = Statement::new(include_str!("sql/acquire.sql"))
        .text(request.key.as_str())
        .text(request.lock_id.as_str())
        .text_or_null(request.owner.as_ref().map(Owner::as_str))
        .integer(request.ttl.as_millis())
        .integer(GRACE_MS)
        .fence(counted)
        .integer(i64::from(store.counters == Counters::Seeded))
        .integer(i64::from(!request.creates_counter));
    let Some(row) = store.writer.row(statement, ticket).await? else {
        return Ok(None);
    };
    let grant = || {
        let (fence, expires_at) = (fence(&row, "fence")?, timestamp(&row, "expires_at_ms")?);
        Ok(AcquireOutcome::Granted(Grant { fence, expires_at }))
    };
    grant().map(Some).map_err(|failure: Failure| failure.after(Effect::MayHaveApplied))
}
