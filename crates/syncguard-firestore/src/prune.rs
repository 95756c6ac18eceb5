//! Deletes the locks of claims that have expired.

use std::sync::Arc;

use syncguard_core::{Fence, LockId, Timestamp};

use crate::{
    client::{Client, Document, Expect, Lane, Read, Search, Write, field_up_to},
    error::Failure,
    record::{CLAIMED_UNTIL, Stored},
    store::Store,
};

/// The maximum number of locks that are deleted together.
const BATCH_SIZE: usize = 64;

/// Deletes some of the locks of claims that have expired, in the background, if it is
/// [time to](syncguard_core::pool::Pruning).
///
/// Other locks stay beside their counters. Most claims end with their ttl, and without a counter
/// nothing else would ever delete them. Locks below other documents are not found by a query, and
/// stay.
///
/// **Invariant:** only a lock is deleted that no one holds and that has no counter, in the version in
/// which it was read to be so. To everyone else that is the same as if the claim had been released.
pub(crate) fn prune_after_claim(store: &Store, lock_id: LockId, now: Timestamp) {
    if store.pruning.due_after_claim(&lock_id).is_none() {
        return;
    }
    let client = store.client.clone();
    tokio::spawn(async move {
        if let Err(failure) = prune(&client, now).await {
            // Nothing depends on it, and the next pruning does what this one left.
            tracing::debug!(%failure, "nothing was pruned");
        }
    });
}

async fn prune(client: &Arc<Client>, now: Timestamp) -> Result<(), Failure> {
    let call = client.call(Lane::Common);
    let condition = Some(field_up_to(CLAIMED_UNTIL, now.unix_millis()));
    let search = Search { condition, order: None, limit: BATCH_SIZE };
    let Read { at, found } = client.search(call, search).await?;
    let over = found.iter().filter(|document| is_over(document, at));
    let delete =
        |document: &Document| Write::delete(&document.name, Expect::Version(document.version));
    let deletes: Vec<_> = over.map(delete).collect();
    if !deletes.is_empty() {
        client.commit(call, deletes).await?;
    }
    Ok(())
}

fn is_over(document: &Document, now: Timestamp) -> bool {
    Stored::parse(document).is_ok_and(|stored| {
        stored.fence() == Fence::ZERO && stored.sharing().is_none() && !stored.is_live(now)
    })
}
