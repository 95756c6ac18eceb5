//! Extending locks.

use syncguard_core::{
    LockId, Timestamp, Ttl,
    backend::{ExtendOutcome, NotHeld},
    pool::Priority,
};

use crate::{
    error::Failure,
    lookup::on_shared_key,
    row::GRACE_MS,
    statement::{Answer, Statement},
    store::Store,
};

/// Sets the expiry of a live grant to now plus `ttl`.
///
/// One statement finds the row by the id; a hint would save nothing. The new expiry is returned
/// beside the number of rows, in place of the id of an inserted row.
pub(crate) async fn extend(
    store: &Store,
    lock_id: LockId,
    ttl: Ttl,
) -> Result<ExtendOutcome, Failure> {
    if store.readers.key(lock_id).is_none() {
        let statement = Statement::write(&store.sql.extend)
            .text(lock_id.as_str())
            .integer(ttl.as_millis())
            .integer(GRACE_MS);
        let answer = store.connections.run_for(Priority::Extend, statement).await?;
        if answer.changed > 0 {
            return extended(&answer);
        }
    }
    let answer = on_shared_key(store, lock_id, Priority::Extend, |sql, key| {
        Statement::write(&sql.extend)
            .text(lock_id.as_str())
            .text(key.as_str())
            .integer(ttl.as_millis())
            .integer(GRACE_MS)
    });
    match answer.await? {
        Some(answer) => extended(&answer),
        None => Ok(ExtendOutcome::NotHeld(NotHeld::Unknown)),
    }
}

fn extended(answer: &Answer) -> Result<ExtendOutcome, Failure> {
    let expires_at = i64::try_from(answer.last_insert_id)
        .map_err(|_| Failure::UnreadableAnswer("expires_at_ms"))?;
    Ok(ExtendOutcome::Extended { expires_at: Timestamp::from_unix_millis(expires_at) })
}
