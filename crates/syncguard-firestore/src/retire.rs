//! Retiring fence counters.

use std::collections::HashMap;

use syncguard_core::{
    Timestamp,
    backend::{PageToken, RetirePage, RetireRequest},
};

use crate::{
    client::{Call, Document, Expect, Lane, Read, Write},
    error::Failure,
    names::DocumentName,
    record::{Counter, Stored},
    store::Store,
};

/// How many counters are read and deleted together at most. Each takes two writes of a commit.
const MAX_PAGE_SIZE: usize = 200;

/// Retires some counters, in the order of their names: two reads and a commit.
///
/// # Why no counter is retired that is used meanwhile
///
/// The commit rests on the version of each counter, and every grant changes it. A counter is
/// deleted together with what is left of its last grant, because a lock without a counter is
/// refused. Conversely, a grant that was decided on a counter that is deleted rests on its version,
/// and is not made.
///
/// The page token is the name of the last counter.
pub(crate) async fn retire_counters(
    store: &Store,
    request: &RetireRequest,
) -> Result<RetirePage, Failure> {
    let call = store.client.call(Lane::Common);
    let after = request.after.as_ref().map(|token| DocumentName::new(token.as_str().to_owned()));
    let limit = request.limit.min(MAX_PAGE_SIZE);
    let Read { at, found } = store.client.counters(call, after.as_ref(), limit).await?;
    let next = found.last().map(|last| PageToken::new(last.name.as_str()));
    let due: Vec<_> = found
        .iter()
        .filter(|document| is_due(request, document, at))
        .filter_map(|document| Some((store.layout.lock_of_fence(&document.name)?, document)))
        .collect();
    let mut retired = 0;
    if !due.is_empty() {
        let names: Vec<_> = due.iter().map(|(lock, _)| lock).collect();
        let Read { found: locks, .. } = store.client.read_all(call, &names).await?;
        let locks: HashMap<_, _> = locks.iter().map(|lock| (&lock.name, lock)).collect();
        let writes = due.iter().filter_map(|(name, counter)| {
            let lock = locks.get(name).copied();
            let has_ended = lock.is_none_or(|lock| has_ended(request, lock, at));
            has_ended.then(|| deletes(counter, lock))
        });
        retired = commit(store, call, writes.collect()).await?;
    }
    Ok(RetirePage { retired, next })
}

fn is_due(request: &RetireRequest, document: &Document, now: Timestamp) -> bool {
    let counter = Counter::parse(document);
    counter.fence().is_ok_and(|fence| request.is_due(fence, now)) && !counter.has_tombstones(now)
}

/// Returns whether the last grants of a lock ended long ago, and no writer has announced itself. A
/// lock that cannot be read stays.
fn has_ended(request: &RetireRequest, lock: &Document, now: Timestamp) -> bool {
    let Ok(stored) = Stored::parse(lock) else { return false };
    let is_announced =
        stored.sharing().is_some_and(|sharing| sharing.holders.announcement(now).is_some());
    stored.expires_at().later_by(request.unused_for()) <= now && !is_announced
}

fn deletes(counter: &Document, lock: Option<&Document>) -> Vec<Write> {
    let delete =
        |document: &Document| Write::delete(&document.name, Expect::Version(document.version));
    std::iter::once(counter).chain(lock).map(delete).collect()
}

/// Commits all deletions together, or, if one of them conflicts, each by itself. Returns how many
/// counters were deleted. The others were used meanwhile.
async fn commit(store: &Store, call: Call, deletions: Vec<Vec<Write>>) -> Result<u64, Failure> {
    if deletions.is_empty() {
        return Ok(0);
    }
    if store.client.commit(call, deletions.concat()).await?.is_some() {
        return Ok(u64::try_from(deletions.len()).unwrap_or(u64::MAX));
    }
    let mut retired = 0;
    for deletion in deletions {
        retired += u64::from(store.client.commit(call, deletion).await?.is_some());
    }
    Ok(retired)
}
