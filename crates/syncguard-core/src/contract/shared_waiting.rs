//! Who is notified when shared holders leave.

use super::{CaseOutcome, Harness, steps::*};
use crate::{
    Operation,
    backend::{AcquireRequest, LockBackend},
};

/// Ends a grant in one of the ways in which waiters are notified.
async fn end(backend: &impl LockBackend, way: Operation, request: &AcquireRequest) {
    match way {
        Operation::Abandon => abandoned(backend, request).await,
        Operation::ForceRelease => {
            drop(backend.force_release(&request.key).await.expect("the store answers"));
        }
        _ => released(backend, lock_of(request)).await,
    }
}

/// A subscriber is notified when the last reader leaves, however it leaves.
pub async fn a_subscriber_is_notified_when_the_last_reader_leaves<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = notified_clients(&h).await?;
    for way in [Operation::Release, Operation::Abandon, Operation::ForceRelease] {
        if way == Operation::ForceRelease && !a.capabilities().list {
            break;
        }
        let (first, last) = (reader_for("k", LONG), reader_for("k", LONG));
        granted(&b, &first).await;
        granted(&b, &last).await;
        if way != Operation::ForceRelease {
            end(&b, way, &first).await;
        }
        let woken = pending_subscription(&a, &last.key).await;
        end(&b, way, &last).await;
        notified(&format!("{way:?}"), woken).await;
    }
    Ok(())
}

/// A subscriber is notified when a permit becomes free, although others hold theirs.
pub async fn a_subscriber_is_notified_when_a_permit_becomes_free<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = notified_clients(&h).await?;
    granted(&b, &permit_for("k", 2, LONG)).await;
    for way in [Operation::Release, Operation::Abandon] {
        let holder = permit_for("k", 2, LONG);
        granted(&b, &holder).await;
        let woken = pending_subscription(&a, &holder.key).await;
        end(&b, way, &holder).await;
        notified(&format!("{way:?}"), woken).await;
    }
    Ok(())
}

/// A subscriber is notified when an announcement is abandoned, so that a reader that it kept out
/// tries again, whether or not anyone holds the key.
pub async fn a_subscriber_is_notified_when_an_announcement_is_abandoned<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = notified_clients(&h).await?;
    for is_held in [true, false] {
        let (reader, writer) = (reader_for("k", LONG), announced_for("k", LONG));
        granted(&b, &reader).await;
        contended(&b, &writer).await;
        if !is_held {
            released(&b, lock_of(&reader)).await;
        }
        let woken = pending_subscription(&a, &writer.key).await;
        abandoned(&b, &writer).await;
        notified("the abandon", woken).await;
        if is_held {
            released(&b, lock_of(&reader)).await;
        }
    }
    Ok(())
}

/// A subscription to a key with readers stays pending while none of them leaves, so that waiters
/// do not poll the store in a loop.
pub async fn a_subscription_stays_pending_while_readers_stay<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let reader = reader_for("k", LONG);
    granted(&b, &reader).await;
    drop(pending_subscription(&a, &reader.key).await);
    Ok(())
}
