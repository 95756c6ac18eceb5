//! Acquiring locks.

use std::time::Duration;

use sqlx::{SqlStr, postgres::PgRow};
use syncguard_core::{
    Fence, Jitter, Owner, Retry,
    backend::{AcquireOutcome, AcquireRequest, Capabilities, Mode},
};

use crate::{
    error::Failure,
    granting::{exclusive_grant, exclusive_holder, read_grant, violation},
    holder_cache::Strategy,
    names::StoredKey,
    prune::prune_after_claim,
    row::{GRACE_MS, text, timestamp},
    share::{announce, share},
    sharing::sharing_now,
    statement::Statement,
    store::Store,
};

/// The longest pause for a client that is deciding who gets a key: about as long as it takes to
/// write the grant and to flush it to a disk that is not slow. The shortest pause is half as long.
const DECISION_PAUSE: Duration = Duration::from_millis(3);

/// Grants the key, or returns its holder: one statement, which is a transaction by itself.
///
/// The statement first reads the holder of the key, so that contenders neither write nor wait. If
/// no one holds the key, it tries the key's advisory lock, and writes the grant if it gets that
/// lock. If it does not, another client is deciding who gets the key. This client then pauses for a
/// moment, and looks up the holder again. It has written nothing, and no fence is lost. If the
/// lookup finds no grant, a text that writes nothing waits for the decision, together with all
/// other clients that wait for it, and repeats the lookup. If that finds no grant either, because
/// the grant was released at once or never made, the client queues.
///
/// The pause helps the other client. A release wakes all waiters of the key. If the losers sent
/// their texts at once, the server would parse and plan them while it writes the grant, and would
/// resume all of them when it commits, just before it sends the answer. The lookup is prepared and
/// waits for no one. A release during the pause is not missed: the caller subscribed before, and
/// its subscription keeps notifications as long as the attempt lasts.
///
/// To queue is to wait for the advisory lock first, and then to acquire, in one text. The statement
/// that acquires begins under the lock. Its snapshot therefore shows all that was decided before,
/// and it always gets the key or finds the holder.
///
/// If the key was held a moment ago, only the first part of the statement is sent at first.
///
/// A key in shared mode is held in the same way: its row, the head, expires with the last holder. A
/// grant over it clears the holders. A request in shared mode takes another way, [`share`]. The two
/// exclude each other, because both grant under the advisory lock of the key, count the counter,
/// and test the latest version of the key's row.
///
/// # Silent peers
///
/// A TypeScript client notifies no one of its release, and queues with each attempt, also for a key
/// that is held. A TypeScript client that works in a loop takes the key again a fraction of a
/// millisecond after its release. A lookup rarely falls into that gap, and an attempt that follows
/// the lookup comes too late. Therefore, for a key that changes hands unseen
/// ([`HolderCache`](crate::holder_cache::HolderCache)), an attempt that finds the key free queues
/// instead of trying. From time to time, an attempt waits at the head of the queue for a moment
/// while a silent peer holds the key (see `place.sql`). A peer that releases meanwhile finds this
/// client ahead of it in the queue.
///
/// This is safe for the same reasons: `place.sql` writes nothing, and the grant is still made by
/// the last statement of the text, under the lock, with a snapshot of its own. The holder needs the
/// lock neither to release nor to extend, unless it is one of ours whose tables have no columns to
/// show that; its extend then waits for that moment.
pub(crate) async fn acquire(
    store: &Store,
    request: &AcquireRequest,
) -> Result<AcquireOutcome, Failure> {
    let key = StoredKey::of(&request.key)?;
    let outcome = match request.mode {
        Mode::Shared { .. } => share(store, request, key.clone()).await?,
        Mode::Exclusive => acquire_exclusive(store, request, &key).await?,
    };
    match &outcome {
        AcquireOutcome::Granted(grant) => {
            store.waiters.granted(&key.key, request.mode, grant.fence);
            if request.is_uncounted(Some(grant.fence)) {
                prune_after_claim(store, request.lock_id);
            }
        }
        AcquireOutcome::Contended { holder: Some(holder) } => {
            store.waiters.refused(&key.key, request.mode, holder);
        }
        AcquireOutcome::Contended { holder: None } => {}
    }
    Ok(outcome)
}

async fn acquire_exclusive(
    store: &Store,
    request: &AcquireRequest,
    key: &StoredKey,
) -> Result<AcquireOutcome, Failure> {
    let outcome = attempt(store, request, key).await?;
    match &outcome {
        AcquireOutcome::Contended { holder: Some(holder) } => {
            store.holder_cache.record(&key.key, holder);
            if let Some(time) = request.announce.filter(|_| holder.mode.is_shared()) {
                announce(store, request, key, time).await?;
            }
        }
        _ => store.holder_cache.forget(&key.key),
    }
    Ok(outcome)
}

async fn attempt(
    store: &Store,
    request: &AcquireRequest,
    key: &StoredKey,
) -> Result<AcquireOutcome, Failure> {
    let strategy = store.holder_cache.strategy(&key.key);
    let acquire = if request.creates_counter { &store.sql.acquire } else { &store.sql.claim };
    if strategy.looks_up_first()
        && let Some(outcome) =
            look_up(store, request, lookup_statement(&store.sql.acquire_lookup, request, key))
                .await?
    {
        return Ok(outcome);
    }
    if !strategy.queues() {
        let row = store.connections.row(write_statement(&acquire.direct, request, key)).await;
        if let Some(outcome) = read_outcome(&row.map_err(violation)?, request)? {
            return Ok(outcome);
        }
        if let Some(moment) = Retry::fixed(DECISION_PAUSE).jitter(Jitter::Equal).delays().next() {
            store.connections.pause(moment).await?;
        }
        let settled = lookup_statement(&store.sql.settled_lookup, request, key).multi_statement();
        for lookup in [lookup_statement(&store.sql.acquire_lookup, request, key), settled] {
            if let Some(outcome) = look_up(store, request, lookup).await? {
                return Ok(outcome);
            }
        }
    }
    let text = match strategy {
        Strategy::WaitAtHead => &acquire.at_head,
        _ => &acquire.queued,
    };
    let row = store.connections.row(write_statement(text, request, key).multi_statement()).await;
    let row = row.map_err(violation)?;
    let outcome = read_outcome(&row, request)?;
    // The outcome is undecided only if a client changes the counter without the advisory lock.
    Ok(outcome.unwrap_or(AcquireOutcome::Contended { holder: None }))
}

/// Sends a lookup, and returns the outcome if it finds a grant of the key.
async fn look_up(
    store: &Store,
    request: &AcquireRequest,
    lookup: Statement,
) -> Result<Option<AcquireOutcome>, Failure> {
    existing_grant(&store.connections.row(lookup).await?, request)
}

fn lookup_statement(sql: &SqlStr, request: &AcquireRequest, key: &StoredKey) -> Statement {
    Statement::read(sql).text(&key.key).text(request.lock_id.as_str()).integer(GRACE_MS)
}

fn write_statement(sql: &SqlStr, request: &AcquireRequest, key: &StoredKey) -> Statement {
    Statement::write(sql)
        .text(&key.key)
        .text(request.lock_id.as_str())
        .integer(GRACE_MS)
        .integer(request.ttl.as_millis())
        .text(&key.fence_key)
        .text(&key.user_key)
        .integer(i64::try_from(Fence::LIMIT.number()).unwrap_or(i64::MAX))
        .text_or_null(request.owner.as_ref().map(Owner::as_str))
}

/// Reads the grant that was made, or the existing one. Returns `None` if there is neither.
fn read_outcome(row: &PgRow, request: &AcquireRequest) -> Result<Option<AcquireOutcome>, Failure> {
    if let Some(outcome) = existing_grant(row, request)? {
        return Ok(Some(outcome));
    }
    Ok(read_grant(row)?.map(AcquireOutcome::Granted))
}

/// Reads the existing grant of the key, which may be the id's own. Returns `None` if there is none.
fn existing_grant(
    row: &PgRow,
    request: &AcquireRequest,
) -> Result<Option<AcquireOutcome>, Failure> {
    let Some(lock_id) = text(row, "lock_id") else {
        return Ok(None);
    };
    if let Some((holders, now)) = sharing_now(row)? {
        let holder = Some(holders.holder(request.mode, now));
        return Ok(Some(AcquireOutcome::Contended { holder }));
    }
    let is_own = lock_id == request.lock_id.as_str();
    let grant = exclusive_grant(row).map_err(|failure| match failure {
        // The id holds the key, or held it.
        Failure::Unreadable(what) if is_own => Failure::UnreadableAnswer(what),
        failure => failure,
    })?;
    let now = timestamp(row, "now_ms")?;
    let holder = if !is_own {
        Some(exclusive_holder(row, grant, now)?)
    } else if grant.expires_at.is_live(now, Capabilities::GRACE) {
        return Ok(Some(AcquireOutcome::Granted(grant)));
    } else {
        // An id names at most one grant, and this id's grant has already been made.
        None
    };
    Ok(Some(AcquireOutcome::Contended { holder }))
}
