//! The expiry of shared grants, one by one.

use super::{CaseOutcome, Harness, steps::*};
use crate::backend::LockBackend;

/// A reader that neither extends nor releases expires alone: the others keep their grants, and
/// keep writers out.
pub async fn a_crashed_reader_expires_alone<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let (crashed, other) = (reader_for("k", SHORT), reader_for("k", LONG));
    granted(&a, &crashed).await;
    granted(&a, &other).await;
    expire(&h, &a, SHORT).await;
    assert_eq!(sharers_of(&b, "k").await, [other.lock_id]);
    assert!(found(&b, crashed.lock_id).await.is_none());
    extend_reports_not_held(&b, lock_of(&crashed)).await;
    release_reports_not_held(&b, lock_of(&crashed)).await;
    contended(&b, &request_for("k", LONG)).await;
    released(&b, lock_of(&other)).await;
    granted(&b, &request_for("k", LONG)).await;
    Ok(())
}

/// Within its grace, a reader still keeps writers out, and can extend and release.
pub async fn a_reader_keeps_its_grant_within_the_grace<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let (stays, leaves) = (reader_for("k", SHORT), reader_for("k", SHORT));
    granted(&a, &stays).await;
    granted(&a, &leaves).await;
    h.advance(SHORT + a.capabilities().grace / 3).await;
    extended(&a, lock_of(&stays), LONG).await;
    released(&a, lock_of(&leaves)).await;
    h.advance(a.capabilities().grace).await;
    contended(&b, &request_for("k", LONG)).await;
    released(&b, lock_of(&stays)).await;
    Ok(())
}

/// Within the grace of the last reader, no writer is granted.
pub async fn no_writer_is_granted_within_the_grace_of_a_reader<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    granted(&a, &reader_for("k", SHORT)).await;
    h.advance(SHORT + a.capabilities().grace / 3).await;
    let holder = contended(&b, &request_for("k", LONG)).await.expect("something is known");
    assert!(holder.remaining.is_none_or(|remaining| remaining.is_zero()), "{holder:?}");
    assert!(is_locked(&b, "k").await);
    Ok(())
}

/// Once all readers have expired and their grace is over, a writer is granted, under a higher
/// fence.
pub async fn a_writer_is_granted_after_all_readers_have_expired<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    granted(&a, &reader_for("k", SHORT)).await;
    let last = granted(&a, &reader_for("k", SHORT)).await.fence;
    expire(&h, &a, SHORT).await;
    assert!(!is_locked(&b, "k").await && found(&b, key("k")).await.is_none());
    let writer = request_for("k", LONG);
    assert!(granted(&b, &writer).await.fence > last);
    assert_eq!(record_of(&a, "k").await.lock_id, writer.lock_id);
    Ok(())
}

/// An extended reader outlives its first ttl, also if another one is not extended.
pub async fn an_extended_reader_outlives_its_first_ttl<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let (extends, other) = (reader_for("k", SHORT), reader_for("k", SHORT));
    granted(&a, &extends).await;
    granted(&a, &other).await;
    extended(&a, lock_of(&extends), LONG).await;
    expire(&h, &a, SHORT).await;
    assert_eq!(sharers_of(&b, "k").await, [extends.lock_id]);
    contended(&b, &request_for("k", LONG)).await;
    Ok(())
}

/// An extend can shorten the time of a reader, and with it that of the key.
pub async fn a_shortened_reader_ends_sooner<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let reader = reader_for("k", LONG);
    granted(&a, &reader).await;
    granted(&a, &reader_for("k", SHORT)).await;
    extended(&b, lock_of(&reader), SHORT).await;
    expire(&h, &a, SHORT).await;
    extend_reports_not_held(&b, lock_of(&reader)).await;
    granted(&b, &request_for("k", LONG)).await;
    Ok(())
}

/// The expiry of the key is the latest of the readers that hold it, after each acquire, extend,
/// release and abandon.
pub async fn the_expiry_of_the_key_is_that_of_its_longest_reader<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let [one, two, longest] = [2, 3, 5].map(|times| reader_for("k", LONG * times));
    let expires_at = async || record_of(&b, "k").await.expires_at;
    let first = granted(&a, &one).await.expires_at;
    assert_eq!(expires_at().await, first);
    let last = granted(&a, &longest).await.expires_at;
    let second = granted(&a, &two).await.expires_at;
    assert_eq!(expires_at().await, last);
    released(&a, lock_of(&longest)).await;
    assert_eq!(expires_at().await, second);
    extended(&a, lock_of(&one), LONG * 4).await;
    assert!(expires_at().await > second);
    extended(&a, lock_of(&one), LONG).await;
    assert_eq!(expires_at().await, second);
    abandoned(&a, &two).await;
    let left = record_of(&b, "k").await;
    assert_eq!(left.expires_at, left.holders[0].expires_at);
    assert!(left.expires_at < first, "{left:?}");
    Ok(())
}

/// A key is kept past the expiry of a longer reader that has left for as long as the others hold
/// it, and no longer.
pub async fn a_longer_reader_that_left_does_not_keep_the_key<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let (long, released_one) = (reader_for("k", LONG), reader_for("l", LONG));
    for (text, leaves) in [("k", &long), ("l", &released_one)] {
        granted(&a, leaves).await;
        granted(&a, &reader_for(text, SHORT)).await;
    }
    abandoned(&a, &long).await;
    released(&a, lock_of(&released_one)).await;
    expire(&h, &a, SHORT).await;
    granted(&b, &request_for("k", LONG)).await;
    granted(&b, &request_for("l", LONG)).await;
    Ok(())
}

/// A reader may have the longest ttl, and be extended by it.
pub async fn a_reader_may_have_the_longest_ttl<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let reader = reader_for("k", crate::Ttl::MAX.as_duration());
    let grant = granted(&a, &reader).await;
    assert_eq!(granted(&b, &reader).await, grant);
    extended(&a, lock_of(&reader), crate::Ttl::MAX.as_duration()).await;
    assert!(record_of(&b, "k").await.expires_at >= grant.expires_at);
    contended(&b, &request_for("k", LONG)).await;
    Ok(())
}

/// Readers that replace each other keep the key held, whenever each of them leaves or expires.
pub async fn readers_in_succession_keep_the_key<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let first = reader_for("k", SHORT);
    let fence = granted(&a, &first).await.fence;
    let second = reader_for("k", LONG);
    granted(&b, &second).await;
    expire(&h, &a, SHORT).await;
    let third = reader_for("k", LONG);
    assert!(granted(&a, &third).await.fence > fence);
    assert_eq!(sharers_of(&b, "k").await, [second.lock_id, third.lock_id]);
    released(&b, lock_of(&second)).await;
    contended(&b, &request_for("k", LONG)).await;
    Ok(())
}
