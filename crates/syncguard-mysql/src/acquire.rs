//! Acquiring locks.

use std::num::NonZeroU32;

use sqlx::mysql::MySqlRow;
use syncguard_core::{
    Fence, Holder, Owner,
    backend::{AcquireOutcome, AcquireRequest, Capabilities, Grant, Mode},
};

use crate::{
    error::Failure,
    granting::{MAX_ATTEMPTS, harden},
    names::shown_head_id,
    prune::prune_after_claim,
    row::{GRACE_MS, bytes, fence, owner, timestamp, value},
    share::{announce, share},
    statement::Statement,
    store::Store,
};

/// Grants the key, or returns its holder: one round trip.
///
/// **Invariant:** all that is known about a key is in one row, and one UPDATE of that row makes a
/// grant: the id, the expiry and the counted-up fence, on the condition that the row's last grant
/// is over. The server locks the row before it tests the condition, on the latest version of the
/// row and by a clock that is read then. Therefore, of contenders that arrive at once, whatever
/// their isolation level, the first gets the key, and each of the others finds that out when its
/// turn comes. Of the many that find an expired grant, one takes the key. The UPDATE is a
/// transaction by itself: it is committed or undone with its statement, even if the client has gone
/// away meanwhile.
///
/// The two statements around it are transactions of their own, so no transaction can be left open
/// in the middle of the three. The statement before creates a row that no one holds; the statement
/// after reads. The id identifies the grant that it reads: if the row has our id and is live, the
/// grant is ours, whether it was made now or long ago.
///
/// A claim does not create a counter: it leaves the fence of a new row at 0. Nothing else is
/// different, and the same row decides. A row with fence 0 that no one holds stands for as much as no
/// row, so it may be deleted at any time. If that happens between the first statement and the
/// UPDATE, no grant is made, there is no row to read, and the attempt is repeated.
///
/// The row of a key that is shared is live for as long as one of its holders is, and therefore
/// refused like any other. See [`share`].
pub(crate) async fn acquire(
    store: &Store,
    request: &AcquireRequest,
) -> Result<AcquireOutcome, Failure> {
    if request.mode.is_shared() {
        return share(store, request).await;
    }
    for _ in 0..MAX_ATTEMPTS {
        match store.connections.run(statement(store, request)).await {
            Ok(answer) => {
                // There is no row if it was deleted after the first statement.
                let Some(row) = answer.rows.first() else { continue };
                let Some(outcome) = outcome(row, request)? else { continue };
                if matches!(outcome, AcquireOutcome::Granted(_)) && value::<i64>(row, "made")? == 0
                {
                    // The grant stands, whatever the result of this call.
                    harden(store).await.map_err(Failure::with_unknown_effect)?;
                }
                if is_uncounted(&outcome, request) {
                    prune_after_claim(store, request.lock_id);
                }
                if is_shared(&outcome) && !announce(store, request).await? {
                    continue;
                }
                return Ok(outcome);
            }
            // Only the UPDATE can violate an index: that of the ids.
            Err(failure) if failure.is_duplicate() => return Err(Failure::Abandoned),
            Err(failure) => return Err(failure),
        }
    }
    Ok(AcquireOutcome::Contended { holder: None })
}

fn is_uncounted(outcome: &AcquireOutcome, request: &AcquireRequest) -> bool {
    let AcquireOutcome::Granted(grant) = outcome else { return false };
    request.is_uncounted(Some(grant.fence))
}

fn is_shared(outcome: &AcquireOutcome) -> bool {
    let AcquireOutcome::Contended { holder: Some(holder) } = outcome else { return false };
    holder.mode.is_shared()
}

fn statement(store: &Store, request: &AcquireRequest) -> Statement {
    let sql = if request.creates_counter { &store.sql.acquire } else { &store.sql.claim };
    Statement::write(sql)
        .text(request.key.as_str())
        .text(request.lock_id.as_str())
        .integer(request.ttl.as_millis())
        .text_or_null(request.owner.as_ref().map(Owner::as_str))
        .integer(GRACE_MS)
        .integer(i64::try_from(Fence::LIMIT.number()).unwrap_or(i64::MAX))
}

/// Reads the outcome from the row. Returns `None` if the key was held and has become free since.
fn outcome(row: &MySqlRow, request: &AcquireRequest) -> Result<Option<AcquireOutcome>, Failure> {
    let (expires_at, now) = (timestamp(row, "expires_at_ms")?, timestamp(row, "now_ms")?);
    let is_live = expires_at.is_live(now, Capabilities::GRACE);
    let id = bytes(row, "lock_id");
    if is_live && id.and_then(shown_head_id).is_some() {
        // The last fence of the key. That of the last holder may be lower, but not higher.
        let grant = Grant { fence: fence(row)?, expires_at };
        let mut holder = Holder::new(grant, None, now, Capabilities::GRACE);
        // The number of holders would cost more.
        let permits = value::<Option<u32>>(row, "permits")?.and_then(NonZeroU32::new);
        holder.mode = Mode::Shared { permits };
        return Ok(Some(AcquireOutcome::Contended { holder: Some(holder) }));
    }
    if value::<i64>(row, "refused")? != 0 {
        return Err(Failure::Abandoned);
    }
    let is_own = id == Some(request.lock_id.as_str().as_bytes());
    if !is_live {
        if value::<u64>(row, "fence")? >= Fence::LIMIT.number() {
            return Err(Failure::FenceLimit);
        }
        // An id names at most one grant, and this id's grant has already been made.
        return Ok(is_own.then_some(AcquireOutcome::Contended { holder: None }));
    }
    // If the grant is the id's own, the id holds the key.
    let fence = fence(row).map_err(|failure| match is_own {
        true => Failure::UnreadableAnswer("fence"),
        false => failure,
    })?;
    let grant = Grant { fence, expires_at };
    Ok(Some(if is_own {
        AcquireOutcome::Granted(grant)
    } else {
        let holder = Holder::new(grant, owner(row), now, Capabilities::GRACE);
        AcquireOutcome::Contended { holder: Some(holder) }
    }))
}
