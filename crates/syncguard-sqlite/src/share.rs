//! Acquiring in shared mode, and announcing a writer that waits for shared holders.

use syncguard_core::{
    Error, ErrorKind, Fence, LockId, Timestamp,
    backend::{AcquireOutcome, AcquireRequest, SharedHolder},
};

use crate::{
    connection::SharedConnection,
    decision::{Decision, decide},
    error::Failure,
    holder::insert,
    key_state::KeyState,
    statement::Statement,
    store::Store,
    worker::Ticket,
};

/// Grants the key in shared mode, stores the announcement of a writer, or returns why it does
/// neither. Returns `None` if the key can be granted exclusively meanwhile.
///
/// The transaction decides again on what it reads, and nothing changes between that and its end. So
/// of several requests for the last permit, the second one finds it taken; of a reader and a writer,
/// the second one finds the other; and a request whose id was abandoned finds the tombstone.
pub(crate) async fn share_or_announce(
    store: &Store,
    ticket: &Ticket,
    request: &AcquireRequest,
) -> Result<Option<AcquireOutcome>, Failure> {
    let new_head = LockId::mint().map_err(|source| {
        let error = Error::new(ErrorKind::Internal).not_applied();
        error.with_detail("the operating system returned no random bytes").with_source(source)
    })?;
    let read = KeyState::by_key(&request.key, Some(request.lock_id));
    let decide = |rows: &[_]| {
        Ok(match decide(KeyState::read(rows)?, request, store.counters)? {
            Decision::Final(outcome) => (Vec::new(), Some(outcome)),
            Decision::Grant { .. } => (Vec::new(), None),
            Decision::Share { head, fence, now } => {
                let owner = request.owner.clone();
                let holder = SharedHolder::new(request.lock_id, fence, owner, request.ttl, now);
                let grant = holder.grant();
                let statements =
                    insert(&request.key, head.unwrap_or(new_head), &holder, request.mode);
                (statements, Some(AcquireOutcome::Granted(grant)))
            }
            Decision::Announce { fence, until, holder } => {
                let announce = announce(request, fence, until);
                (vec![announce], Some(AcquireOutcome::Contended { holder: Some(holder) }))
            }
        })
    };
    connection(store, request).transact(read, decide, ticket).await
}

/// A grant waits for the disk, an announcement does not: after a power failure, no reader is in
/// front of the writer any more that was not there before.
fn connection<'s>(store: &'s Store, request: &AcquireRequest) -> &'s SharedConnection {
    if request.mode.is_shared() { &store.writer } else { &store.releaser }
}

fn announce(request: &AcquireRequest, fence: Option<Fence>, until: Timestamp) -> Statement {
    Statement::new(include_str!("sql/announce.sql"))
        .text(request.key.as_str())
        .text(request.lock_id.as_str())
        .integer(until.unix_millis())
        .fence(fence)
}
