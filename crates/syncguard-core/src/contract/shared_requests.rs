//! Requests in shared mode that are repeated, abandoned, or made with a foreign id.

use super::{CaseOutcome, Harness, steps::*};
use crate::{
    ErrorKind,
    backend::{AcquireOutcome, LockBackend, LockRef},
};

/// A repeated request returns the stored grant of its id, with the same fence and expiry, beside
/// other readers and from any client.
pub async fn a_repeated_request_of_a_reader_returns_its_grant<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let mut readers = [(); 2].map(|()| reader_for("k", LONG));
    let grants = [granted(&a, &readers[0]).await, granted(&a, &readers[1]).await];
    for reader in &mut readers {
        reader.ttl = ttl(LONG * 10);
    }
    for client in [&a, &b] {
        let again = [granted(client, &readers[0]).await, granted(client, &readers[1]).await];
        assert_eq!(again, grants);
    }
    assert_eq!(granted(&b, &reader_for("k", LONG)).await.fence.number(), 3);
    Ok(())
}

/// Clients that request the key with one id at the same time get one grant.
pub async fn concurrent_requests_of_one_reader_get_one_grant<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    for round in 1..=6 {
        let reader = reader_for("k", LONG);
        let (one, other) = tokio::join!(granted(&a, &reader), granted(&b, &reader));
        assert_eq!(one, other);
        assert_eq!(sharers_of(&a, "k").await.len(), round);
    }
    Ok(())
}

/// After an abandon, an acquire with the id is rejected on a free key, and not granted beside
/// other readers. It uses up no fence.
pub async fn an_abandoned_reader_is_never_granted<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let (before, after) = (reader_for("k", LONG), reader_for("k", LONG));
    abandoned(&b, &before).await;
    let error = error_of(a.acquire(&before).await, ErrorKind::Aborted);
    assert!(!error.may_have_applied());
    granted(&a, &after).await;
    abandoned(&b, &after).await;
    error_of(a.acquire(&after).await, ErrorKind::Aborted);
    granted(&a, &reader_for("k", LONG)).await;
    h.advance(a.capabilities().grace + SHORT).await;
    for late in [&before, &after] {
        let outcome = a.acquire(late).await;
        assert!(!matches!(outcome, Ok(AcquireOutcome::Granted(_))), "{outcome:?}");
    }
    assert_eq!(granted(&b, &reader_for("k", LONG)).await.fence.number(), 3);
    Ok(())
}

/// If a reader is abandoned while its acquire is in flight, it holds nothing afterwards, and the
/// reader beside it keeps its grant.
pub async fn abandoning_a_reader_during_its_acquire_leaves_no_grant<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let present = reader_for("k", LONG);
    granted(&a, &present).await;
    for round in 0..30 {
        let text = if round % 2 == 0 { "k".to_owned() } else { format!("k{round}") };
        let reader = reader_for(&text, LONG);
        let (outcome, ()) = tokio::join!(a.acquire(&reader), async {
            for _ in 0..round % 5 {
                tokio::task::yield_now().await;
            }
            abandoned(&b, &reader).await;
        });
        if let Err(error) = outcome {
            assert_eq!(error.kind(), ErrorKind::Aborted, "{error}");
        }
        assert!(found(&a, reader.lock_id).await.is_none(), "round {round}");
        assert_eq!(is_locked(&b, &text).await, text == "k", "round {round}");
    }
    assert_eq!(sharers_of(&b, "k").await, [present.lock_id]);
    Ok(())
}

/// Each reader is released at most once.
pub async fn a_reader_is_released_at_most_once<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let (reader, other) = (reader_for("k", LONG), reader_for("k", LONG));
    granted(&a, &reader).await;
    granted(&a, &other).await;
    let lock = lock_of(&reader);
    let (one, two) = tokio::join!(a.release(&lock), b.release(&lock));
    let outcomes = [one.expect("the store answers"), two.expect("the store answers")];
    let releases = outcomes.iter().filter(|o| matches!(o, crate::ReleaseOutcome::Released));
    assert_eq!(releases.count(), 1, "{outcomes:?}");
    release_reports_not_held(&a, lock).await;
    released(&a, lock_of(&other)).await;
    Ok(())
}

/// An id that holds nothing releases, extends and ends nothing, even with the key of readers.
pub async fn a_foreign_id_leaves_readers_alone<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let (reader, gone) = (reader_for("k", LONG), reader_for("k", LONG));
    granted(&a, &gone).await;
    released(&a, lock_of(&gone)).await;
    granted(&a, &reader).await;
    let before = record_of(&a, "k").await.holders;
    for foreign in [&request_for("k", LONG), &gone] {
        extend_reports_not_held(&b, lock_of(foreign)).await;
        release_reports_not_held(&b, lock_of(foreign)).await;
        abandoned(&b, foreign).await;
        assert!(found(&b, foreign.lock_id).await.is_none());
    }
    assert_eq!(record_of(&a, "k").await.holders, before);
    Ok(())
}

/// The id of a reader alone is sufficient, and a wrong key beside it affects no other lock.
pub async fn the_id_of_a_reader_decides_whatever_the_hint<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let (reader, other) = (reader_for("k", LONG), reader_for("other", LONG));
    let (stays, writer) = (reader_for("k", LONG), request_for("written", LONG));
    for request in [&reader, &other, &stays, &writer] {
        granted(&a, request).await;
    }
    extended(&b, reader.lock_id.into(), LONG).await;
    for wrong in ["other", "written", "free"] {
        extended(&b, LockRef::new(reader.lock_id, key(wrong)), LONG).await;
    }
    released(&b, LockRef::new(reader.lock_id, key("other"))).await;
    released(&b, stays.lock_id.into()).await;
    assert!(!is_locked(&a, "k").await);
    assert_eq!(sharers_of(&a, "other").await, [other.lock_id]);
    assert_eq!(record_of(&a, "written").await.lock_id, writer.lock_id);
    Ok(())
}

/// An id whose shared grant has expired does not get that grant again: it is refused, or granted
/// anew under a higher fence.
pub async fn an_expired_reader_never_gets_its_old_grant<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let expired = reader_for("k", SHORT);
    granted(&a, &expired).await;
    let last = granted(&a, &reader_for("k", LONG)).await.fence;
    expire(&h, &a, SHORT).await;
    match b.acquire(&expired).await.expect("the store answers") {
        AcquireOutcome::Granted(grant) => assert!(grant.fence > last, "{grant:?} after {last}"),
        AcquireOutcome::Contended { .. } => {
            assert!(found(&b, expired.lock_id).await.is_none());
        }
    }
    Ok(())
}
