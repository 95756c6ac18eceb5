//! The statements that change the shared holders of a key.
//!
//! They run in a transaction that has read the key.
//!
//! **Invariant:** after each transaction, a head has a holder and ends with the last of them. So a
//! client that knows only exclusive locks finds the key held exactly while it is shared.

use syncguard_core::{
    LockId, LockKey, Owner, Timestamp,
    backend::{Mode, SharedHolder},
};

use crate::{row::GRACE_MS, statement::Statement};

/// A live shared grant, as a transaction has read it.
pub(crate) struct Held {
    pub(crate) head: LockId,
    pub(crate) holder: SharedHolder,
    pub(crate) now: Timestamp,
}

/// Returns the statements that store a grant under a head.
pub(crate) fn insert(
    key: &LockKey,
    head: LockId,
    holder: &SharedHolder,
    mode: Mode,
) -> Vec<Statement> {
    let now = holder.acquired_at;
    let store_holder = Statement::new(include_str!("sql/share_holder.sql"))
        .text(holder.lock_id.as_str())
        .text(head.as_str())
        .integer_or_null(mode.permits().map(|permits| permits.get().into()))
        .fence(Some(holder.fence))
        .text_or_null(holder.owner.as_ref().map(Owner::as_str))
        .integer(now.unix_millis())
        .integer(holder.expires_at.unix_millis());
    let store_head = Statement::new(include_str!("sql/share_head.sql"))
        .text(key.as_str())
        .text(head.as_str())
        .fence(Some(holder.fence))
        .integer(now.unix_millis());
    vec![remove_one(head, holder.lock_id, now), store_holder, store_head]
}

impl Held {
    /// Returns the statements that set the expiry of the grant.
    pub(crate) fn extend(&self, expires_at: Timestamp) -> Vec<Statement> {
        let extend = Statement::new(include_str!("sql/shared_extend.sql"))
            .text(self.holder.lock_id.as_str())
            .integer(expires_at.unix_millis());
        vec![extend, follow(self.head)]
    }

    /// Returns the statements that end the grant.
    pub(crate) fn end(&self) -> Vec<Statement> {
        vec![remove_one(self.head, self.holder.lock_id, self.now), follow(self.head)]
    }
}

/// The holders that are not live go with it: what is left is live.
fn remove_one(head: LockId, lock_id: LockId, now: Timestamp) -> Statement {
    Statement::new(include_str!("sql/shared_remove.sql"))
        .text(head.as_str())
        .text(lock_id.as_str())
        .integer(now.unix_millis())
        .integer(GRACE_MS)
}

fn follow(head: LockId) -> Statement {
    Statement::new(include_str!("sql/shared_head.sql")).text(head.as_str())
}
