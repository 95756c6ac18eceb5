//! Writers that announce that they wait.

use std::time::Duration;

use super::{CaseOutcome, Harness, steps::*};
use crate::{
    Ttl,
    backend::{AcquireRequest, LockBackend, Mode},
};

/// Lets a reader hold "k", and announces a writer for so long that it does not end within the
/// case. Returns both requests.
async fn announced(backend: &impl LockBackend) -> (AcquireRequest, AcquireRequest) {
    let (reader, writer) = (reader_for("k", LONG), announced_for("k", LONG));
    granted(backend, &reader).await;
    contended(backend, &writer).await;
    (reader, writer)
}

/// While an announcement stands, no new reader is admitted, and none to a free permit.
pub async fn an_announcement_keeps_new_readers_out<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    announced(&a).await;
    granted(&a, &permit_for("permits", 2, LONG)).await;
    contended(&b, &announced_for("permits", LONG)).await;
    for client in [&a, &b] {
        contended(client, &reader_for("k", LONG)).await;
        contended(client, &permit_for("permits", 2, LONG)).await;
    }
    granted(&b, &reader_for("other", LONG)).await;
    Ok(())
}

/// A reader that holds the key keeps its grant: a repeated request returns it, and it can be
/// extended and released.
pub async fn an_announcement_leaves_present_readers_alone<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let present = reader_for("k", LONG);
    let grant = granted(&a, &present).await;
    announced(&a).await;
    assert_eq!(granted(&b, &present).await, grant);
    extended(&b, lock_of(&present), LONG).await;
    released(&b, lock_of(&present)).await;
    contended(&b, &present).await;
    Ok(())
}

/// An announcement ends by itself.
pub async fn an_announcement_ends_after_its_time<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    granted(&a, &reader_for("k", LONG)).await;
    contended(&a, &announced_for("k", SHORT)).await;
    h.advance(SHORT + SLACK).await;
    granted(&b, &reader_for("k", LONG)).await;
    Ok(())
}

/// An abandon of the writer removes its announcement.
pub async fn an_abandon_removes_the_announcement<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let (_, writer) = announced(&a).await;
    abandoned(&b, &writer).await;
    granted(&a, &reader_for("k", LONG)).await;
    Ok(())
}

/// Neither the abandon of another id, nor the abandon or release of a reader, removes the
/// announcement.
pub async fn another_id_does_not_remove_the_announcement<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let present = [reader_for("k", LONG), reader_for("k", LONG)];
    for reader in &present {
        granted(&a, reader).await;
    }
    announced(&a).await;
    abandoned(&b, &request_for("k", LONG)).await;
    abandoned(&b, &present[0]).await;
    released(&b, lock_of(&present[1])).await;
    contended(&b, &reader_for("k", LONG)).await;
    Ok(())
}

/// An announcement stays when the last reader leaves, so that the writer gets the key.
pub async fn an_announcement_outlives_the_last_reader<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let (reader, writer) = announced(&a).await;
    released(&a, lock_of(&reader)).await;
    contended(&b, &reader_for("k", LONG)).await;
    granted(&b, &writer).await;
    Ok(())
}

/// An announcement keeps no other writer out once the readers have left.
pub async fn an_announcement_keeps_no_writer_out<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let (reader, _writer) = announced(&a).await;
    contended(&b, &request_for("k", LONG)).await;
    released(&a, lock_of(&reader)).await;
    granted(&b, &request_for("k", LONG)).await;
    Ok(())
}

/// An exclusive grant ends the announcement, whichever writer is granted: after it is released,
/// readers are admitted.
pub async fn an_exclusive_grant_ends_the_announcement<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let (reader, announced_writer) = announced(&a).await;
    released(&a, lock_of(&reader)).await;
    granted(&b, &announced_writer).await;
    released(&b, lock_of(&announced_writer)).await;
    let (reader, other_writer) = (reader_for("k", LONG), request_for("k", LONG));
    granted(&a, &reader).await;
    contended(&a, &announced_for("k", LONG)).await;
    released(&a, lock_of(&reader)).await;
    granted(&b, &other_writer).await;
    released(&b, lock_of(&other_writer)).await;
    granted(&a, &reader_for("k", LONG)).await;
    Ok(())
}

/// A refused writer that does not announce itself keeps no reader out, and changes nothing.
pub async fn a_refused_writer_without_announcement_changes_nothing<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    granted(&a, &reader_for("k", LONG)).await;
    let before = record_of(&a, "k").await;
    contended(&b, &request_for("k", LONG)).await;
    let after = record_of(&a, "k").await;
    assert_eq!((after.expires_at, after.holders), (before.expires_at, before.holders));
    granted(&b, &reader_for("k", LONG)).await;
    Ok(())
}

/// An announcement that ends later replaces an earlier one: it stands when the earlier one would
/// have ended, and is removed by the abandon of its own writer.
pub async fn a_later_announcement_replaces_an_earlier_one<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let (earlier, later) = (announced_for("k", SHORT), announced_for("k", LONG));
    granted(&a, &reader_for("k", LONG)).await;
    contended(&a, &earlier).await;
    contended(&b, &later).await;
    h.advance(SHORT + SLACK).await;
    contended(&a, &reader_for("k", LONG)).await;
    abandoned(&a, &earlier).await;
    contended(&a, &reader_for("k", LONG)).await;
    abandoned(&a, &later).await;
    granted(&a, &reader_for("k", LONG)).await;
    Ok(())
}

/// An announcement that ends earlier does not shorten the one that stands.
pub async fn an_earlier_announcement_does_not_shorten_a_later_one<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let (_, later) = announced(&a).await;
    let earlier = announced_for("k", SHORT);
    contended(&b, &earlier).await;
    h.advance(SHORT + SLACK).await;
    contended(&b, &reader_for("k", LONG)).await;
    abandoned(&b, &earlier).await;
    contended(&b, &reader_for("k", LONG)).await;
    abandoned(&b, &later).await;
    granted(&b, &reader_for("k", LONG)).await;
    Ok(())
}

/// A writer that asks again prolongs its own announcement.
pub async fn a_repeated_attempt_prolongs_the_announcement<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let writer = announced_for("k", SHORT);
    granted(&a, &reader_for("k", LONG)).await;
    contended(&a, &writer).await;
    contended(&a, &writer.clone().with_announcement(Some(LONG))).await;
    h.advance(SHORT + SLACK).await;
    contended(&b, &reader_for("k", LONG)).await;
    abandoned(&b, &writer).await;
    granted(&b, &reader_for("k", LONG)).await;
    Ok(())
}

/// An announcement that is made while the last reader leaves is not lost: either the writer is
/// granted, or its announcement stands.
pub async fn an_announcement_that_races_a_release_is_not_lost<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    for round in 0..10 {
        let (reader, writer) = (reader_for("k", LONG), announced_for("k", LONG));
        granted(&a, &reader).await;
        let (outcome, ()) = tokio::join!(b.acquire(&writer), async {
            for _ in 0..round % 5 {
                tokio::task::yield_now().await;
            }
            released(&a, lock_of(&reader)).await;
        });
        let _ = outcome.expect("the store answers");
        contended(&a, &reader_for("k", LONG)).await;
        abandoned(&b, &writer).await;
    }
    granted(&a, &reader_for("k", LONG)).await;
    Ok(())
}

/// If the readers expire while an announcement stands, its writer is granted, and no reader before
/// it.
pub async fn an_announcement_outlives_readers_that_expire<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let writer = announced_for("k", LONG);
    granted(&a, &reader_for("k", SHORT)).await;
    contended(&a, &writer).await;
    expire(&h, &a, SHORT).await;
    contended(&b, &reader_for("k", LONG)).await;
    assert_eq!(granted(&b, &writer).await.fence.number(), 2);
    Ok(())
}

/// The longest and the shortest announcement work.
pub async fn the_longest_and_the_shortest_announcement_work<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    granted(&a, &reader_for("k", LONG)).await;
    for short in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(1)] {
        contended(&a, &announced_for("k", short)).await;
        h.advance(Duration::from_millis(5)).await;
        granted(&b, &reader_for("k", LONG)).await;
    }
    let longest = announced_for("k", Ttl::MAX.as_duration());
    contended(&b, &longest).await;
    contended(&a, &reader_for("k", LONG)).await;
    abandoned(&b, &longest).await;
    granted(&a, &reader_for("k", LONG)).await;
    Ok(())
}

/// Neither announcements nor the requests that they keep out use up a fence.
pub async fn announcements_use_up_no_fence<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let (reader, writer) = announced(&a).await;
    for _ in 0..3 {
        contended(&b, &announced_for("k", LONG)).await;
        contended(&b, &reader_for("k", LONG)).await;
    }
    released(&a, lock_of(&reader)).await;
    contended(&b, &reader_for("k", LONG)).await;
    assert_eq!(granted(&a, &writer).await.fence.number(), 2);
    Ok(())
}

/// A writer that is refused because of another writer announces nothing.
pub async fn an_announcement_behind_a_writer_has_no_effect<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let writer = request_for("k", LONG);
    granted(&a, &writer).await;
    contended(&b, &announced_for("k", LONG)).await;
    released(&a, lock_of(&writer)).await;
    granted(&a, &reader_for("k", LONG)).await;
    Ok(())
}

/// A request in shared mode announces nothing, for whatever reason it is refused.
pub async fn a_request_in_shared_mode_announces_nothing<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let holder = permit_for("k", 1, LONG);
    granted(&a, &holder).await;
    let refused = permit_for("k", 1, LONG).with_announcement(Some(LONG));
    contended(&b, &refused).await;
    released(&a, lock_of(&holder)).await;
    granted(&a, &permit_for("k", 1, LONG)).await;
    Ok(())
}

/// An announced key that no one holds is not locked: no lookup finds it.
pub async fn an_announced_key_without_holders_is_not_locked<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let (reader, writer) = announced(&a).await;
    assert_eq!(sharers_of(&b, "k").await, [reader.lock_id]);
    assert!(found(&b, writer.lock_id).await.is_none());
    released(&a, lock_of(&reader)).await;
    assert!(!is_locked(&b, "k").await && found(&b, key("k")).await.is_none());
    assert!(found(&b, writer.lock_id).await.is_none());
    release_reports_not_held(&b, lock_of(&writer)).await;
    Ok(())
}

/// Contention with an announcement reports when it ends, whether or not anyone holds the key.
pub async fn contention_with_an_announcement_reports_its_end<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let reader = reader_for("k", LONG * 4);
    granted(&a, &reader).await;
    contended(&a, &announced_for("k", LONG)).await;
    for count in [1, 0] {
        let holder = contended(&b, &reader_for("k", LONG)).await.expect("something is known");
        assert_eq!(holder.mode, Mode::SHARED);
        assert!(holder.count.is_none_or(|known| known == count), "{holder:?}");
        let free_in = holder.free_in.expect("it is known");
        assert!(free_in <= LONG && free_in > LONG / 2, "{holder:?}");
        if count == 1 {
            released(&a, lock_of(&reader)).await;
        }
    }
    Ok(())
}
