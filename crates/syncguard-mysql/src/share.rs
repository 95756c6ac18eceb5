//! Acquiring locks in shared mode, and announcing writers.

use sqlx::mysql::MySqlRow;
use syncguard_core::{
    Fence, Holder, LockId, Owner,
    backend::{
        AcquireOutcome, AcquireRequest, Admission, Capabilities, Grant, Mode, SharedHolders,
    },
};

use crate::{
    error::Failure,
    granting::{MAX_ATTEMPTS, harden},
    holders::{announced_holders, announcement},
    names::head_id,
    release::remove_expired,
    row::{GRACE_MS, fence, owner, timestamp, value},
    sql::SharingSql,
    statement::Statement,
    store::Store,
};

/// Grants the key in shared mode, or returns its holders: one round trip.
///
/// **Invariant:** the row of the key alone shows who holds it. In shared mode that row is the head:
/// `lock_id` has the length of the id of a head, `holders` contains the grants, and `expires_at_ms` is the latest of
/// theirs. The statement of an exclusive grant, also that of an earlier version of this crate, is
/// therefore refused until the last shared grant has ended, and gives the row another `lock_id`,
/// which voids what is left of shared mode. The statement that makes a shared grant locks the same
/// row first, and decides on its latest version. So of concurrent readers and writers, the first to
/// lock the row decides for the others.
///
/// **Invariant:** for each id in the holders of a head, there is a row of a member. It is inserted by
/// the statement that makes the grant, and deleted after the id has been removed from the head. It
/// serves two purposes: it leads from the id to the key, and by the unique index on the ids, it
/// orders the grant against the tombstone of an abandon, as the row of the key does for an exclusive
/// grant. It is not a lock: its key is not text, and its expiry is 0.
///
/// **Order of locks:** the row of the key, then that of the member, then the entry of the id in the
/// index. Statements that find a row by an id lock the entry first: those that extend, release and
/// abandon exclusive grants. They conflict only with another statement about the same id or with a
/// grant that takes over its expired row. The server then undoes one of the two, which is run again.
pub(crate) async fn share(
    store: &Store,
    request: &AcquireRequest,
) -> Result<AcquireOutcome, Failure> {
    let sql = store.sql.sharing()?;
    for _ in 0..MAX_ATTEMPTS {
        let answer = match store.connections.run(statement(sql, request)?).await {
            Ok(answer) => answer,
            // A grant or a tombstone of the id was written at the same time. It is visible now.
            Err(failure) if failure.is_duplicate() => continue,
            Err(failure) => return Err(failure),
        };
        // There is no row if it was retired after the first statement.
        let Some(row) = answer.rows.first() else { continue };
        let made = value::<i64>(row, "made")? != 0;
        let outcome = outcome(store, row, request);
        // A grant that is made stands, whatever the result of this call.
        let outcome = if made { outcome.map_err(Failure::with_unknown_effect) } else { outcome };
        let Some(outcome) = outcome? else { continue };
        if matches!(outcome, AcquireOutcome::Granted(_)) {
            if !made {
                harden(store).await.map_err(Failure::with_unknown_effect)?;
            }
            store.readers.insert(request.lock_id, request.key.clone());
        }
        return Ok(outcome);
    }
    Ok(AcquireOutcome::Contended { holder: None })
}

fn statement(sql: &SharingSql, request: &AcquireRequest) -> Result<Statement, Failure> {
    let permits = request.mode.permits().map_or("NULL".to_owned(), |permits| permits.to_string());
    let head = LockId::mint().map_err(Failure::NoRandomness)?;
    Ok(Statement::write(&sql.share)
        .text(request.key.as_str())
        .text(request.lock_id.as_str())
        .integer(request.ttl.as_millis())
        .text_or_null(request.owner.as_ref().map(Owner::as_str))
        .integer(GRACE_MS)
        .integer(i64::try_from(Fence::LIMIT.number()).unwrap_or(i64::MAX))
        .text(head_id(&head))
        .digits(&permits))
}

/// Reads the outcome from the row. Returns `None` if the key was not granted, and could be now.
fn outcome(
    store: &Store,
    row: &MySqlRow,
    request: &AcquireRequest,
) -> Result<Option<AcquireOutcome>, Failure> {
    let (expires_at, now) = (timestamp(row, "expires_at_ms")?, timestamp(row, "now_ms")?);
    let announcement = announcement(row)?;
    let mut holders = SharedHolders::restore(Mode::SHARED, Vec::new(), announcement);
    if expires_at.is_live(now, Capabilities::GRACE) {
        let Some(shared) = announced_holders(row, announcement)? else {
            let grant = Grant { fence: fence(row)?, expires_at };
            let holder = Holder::new(grant, owner(row), now, Capabilities::GRACE);
            return Ok(Some(AcquireOutcome::Contended { holder: Some(holder) }));
        };
        holders = shared;
    }
    Ok(match holders.admit(request.lock_id, request.mode, now)? {
        Admission::Held(grant) => {
            let expired = holders.prune(now).into_iter().map(|holder| holder.lock_id);
            remove_expired(store, &request.key, expired);
            Some(AcquireOutcome::Granted(grant))
        }
        Admission::Refused(holder) => Some(AcquireOutcome::Contended { holder: Some(holder) }),
        Admission::Admitted if value::<i64>(row, "refused")? != 0 => {
            return Err(Failure::Abandoned);
        }
        // An id names at most one grant, and this id's grant has already been made.
        Admission::Admitted if value::<i64>(row, "joined")? != 0 => {
            Some(AcquireOutcome::Contended { holder: None })
        }
        Admission::Admitted if value::<u64>(row, "fence")? >= Fence::LIMIT.number() => {
            return Err(Failure::FenceLimit);
        }
        Admission::Admitted => None,
    })
}

/// Keeps new readers out of a shared key for as long as a refused writer announces that it waits.
/// Returns whether the writer can wait: `false` if the readers have left since it was refused, and
/// there is nothing that keeps new ones out.
pub(crate) async fn announce(store: &Store, request: &AcquireRequest) -> Result<bool, Failure> {
    let Some(time) = request.announce else {
        return Ok(true);
    };
    let statement = Statement::write(&store.sql.sharing()?.announce)
        .text(request.key.as_str())
        .text(request.lock_id.as_str())
        .integer(i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 2))
        .integer(GRACE_MS);
    let answer = store.connections.run(statement).await?;
    let row = answer.rows.first().ok_or(Failure::UnreadableAnswer("answer"))?;
    Ok(answer.changed > 0 || value::<i64>(row, "stands")? > 0)
}
