//! Reading the replies that the acquire scripts of both modes have in common.

use syncguard_core::{
    Fence, Timestamp,
    backend::{AcquireOutcome, Grant},
};

use crate::{client::Reply, error::Failure, record::Stored, script::reply, store::Store};

/// The number of items of a reply that ends with a place in line.
const REFUSAL_WITH_PLACE: usize = 5;

/// Takes the place in line off the reply to an attempt that was refused, if the attempt had an entry.
pub(crate) fn take_place(reply: Reply) -> (Reply, Option<i64>) {
    match reply {
        Reply::List(mut items) if items.len() == REFUSAL_WITH_PLACE => {
            let place = items.pop().and_then(|place| place.integer());
            // In place of what describes shared holders.
            items.pop_if(|item| *item == Reply::Nil);
            (Reply::List(items), place)
        }
        reply => (reply, None),
    }
}

/// Reports the holder of an exclusive lock to a contender.
pub(crate) fn refused_by_writer(
    store: &Store,
    now: i64,
    record: &str,
    kept_for: &Reply,
) -> AcquireOutcome {
    let (now, grace) = (Timestamp::from_unix_millis(now), store.options.grace);
    let kept_for = kept_for.integer().unwrap_or(-1);
    let stored = Stored::parse(record).ok();
    AcquireOutcome::Contended { holder: stored.map(|stored| stored.holder(now, kept_for, grace)) }
}

/// Returns the failure for which a code of an acquire script stands.
pub(crate) fn rejection(reply: &Reply) -> Failure {
    match reply {
        Reply::Integer(reply::ABANDONED) => Failure::Abandoned,
        Reply::Integer(reply::FENCE_LIMIT) => Failure::FenceLimit,
        Reply::Integer(reply::UNREADABLE) => Failure::UNREADABLE_RECORD,
        Reply::Integer(reply::UNREADABLE_HOLDERS) => Failure::UNREADABLE_HOLDERS,
        _ => Failure::Garbled("an acquire"),
    }
}

pub(crate) fn granted(fence: i64, expires_at: Timestamp) -> Result<AcquireOutcome, Failure> {
    let fence = u64::try_from(fence).ok().and_then(|number| Fence::new(number).ok());
    let fence = fence.ok_or(Failure::Garbled("an acquire"))?;
    Ok(AcquireOutcome::Granted(Grant { fence, expires_at }))
}
