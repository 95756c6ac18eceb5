//! What lookups, lists and contention report of a key that is shared.

use std::{num::NonZeroU32, time::Duration};

use super::{CaseOutcome, Harness, operators::listed, steps::*};
use crate::{
    Owner,
    backend::{LockBackend, Mode},
};

/// The maximum difference between two readings of the store's clock for one answer.
const CLOCK_READINGS: Duration = Duration::from_millis(20);

/// The record of a shared key contains its mode and its holders, and stands for all of them: its
/// fence is the highest, its expiry the latest, its start the earliest, and it has no owner.
pub async fn a_shared_record_stands_for_all_holders<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let mode = Mode::Shared { permits: NonZeroU32::new(4) };
    let owner = Owner::new("first").ok();
    let first = permit_for("k", 4, LONG * 2).with_owner(owner.clone());
    let second = permit_for("k", 4, LONG);
    let grants = [granted(&a, &first).await, granted(&b, &second).await];
    let record = record_of(&b, "k").await;
    assert_eq!((record.key.as_str(), record.mode), ("k", mode));
    assert_eq!((record.fence, record.expires_at), (grants[1].fence, grants[0].expires_at));
    assert_eq!((&record.owner, &record.holders[0].owner), (&None, &owner));
    assert_eq!(record.acquired_at, record.holders[0].acquired_at);
    assert!(record.observed_at >= record.holders[1].acquired_at, "{record:?}");
    let ids: Vec<_> = record.holders.iter().map(|holder| holder.lock_id).collect();
    assert_eq!(ids, [first.lock_id, second.lock_id]);
    Ok(())
}

/// The record of a shared key is found by the key and by the id of each holder, and is the same.
pub async fn a_shared_record_is_found_by_the_id_of_each_holder<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let readers = [reader_for("k", LONG), reader_for("k", LONG)];
    granted(&a, &reader_for("other", LONG)).await;
    for reader in &readers {
        granted(&a, reader).await;
    }
    let mut by_key = record_of(&b, "k").await;
    for reader in &readers {
        let by_id = found(&b, reader.lock_id).await.expect("the reader holds the key");
        by_key.observed_at = by_id.observed_at;
        assert_eq!(by_id, by_key);
    }
    Ok(())
}

/// The id of a shared record belongs to no holder: it extends, releases and ends nothing.
pub async fn the_id_of_a_shared_record_holds_nothing<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let reader = reader_for("k", LONG);
    granted(&a, &reader).await;
    let before = record_of(&b, "k").await;
    assert_ne!(before.lock_id, reader.lock_id);
    let head = crate::backend::LockRef::new(before.lock_id, key("k"));
    for lock in [head, before.lock_id.into()] {
        extend_reports_not_held(&b, lock.clone()).await;
        release_reports_not_held(&b, lock).await;
    }
    assert!(found(&b, before.lock_id).await.is_none());
    b.abandon(before.lock_id, &key("k")).await.expect("the store answers");
    let after = record_of(&b, "k").await;
    assert_eq!((after.expires_at, after.holders), (before.expires_at, before.holders));
    extended(&a, lock_of(&reader), LONG).await;
    Ok(())
}

/// The record of an exclusive lock has no shared holders, also where readers held the key before.
pub async fn an_exclusive_record_has_no_shared_holders<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let (reader, writer) = (reader_for("k", LONG), request_for("k", LONG));
    granted(&a, &reader).await;
    released(&a, lock_of(&reader)).await;
    granted(&a, &writer).await;
    let record = record_of(&b, "k").await;
    assert_eq!((record.mode, record.lock_id), (Mode::Exclusive, writer.lock_id));
    assert!(record.holders.is_empty(), "{record:?}");
    assert!(found(&b, reader.lock_id).await.is_none());
    Ok(())
}

/// A list contains a shared key once, with all its holders, as lookups return it.
pub async fn a_shared_key_is_listed_once<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = operating_clients(&h).await?;
    for text in ["job:1", "job:2", "job:2", "job:2", "other"] {
        granted(&a, &reader_for(text, LONG)).await;
    }
    granted(&a, &request_for("job:3", LONG)).await;
    let announced = reader_for("job:4", LONG);
    granted(&a, &announced).await;
    contended(&a, &announced_for("job:4", LONG)).await;
    released(&a, lock_of(&announced)).await;
    let mut locks = listed(&b, "job:", 2).await;
    locks.sort_by(|one, other| one.key.cmp(&other.key));
    let shown: Vec<_> = locks.iter().map(|lock| (lock.key.as_str(), lock.holders.len())).collect();
    assert_eq!(shown, [("job:1", 1), ("job:2", 3), ("job:3", 0)]);
    for mut lock in locks {
        let known = record_of(&a, lock.key.as_str()).await;
        lock.observed_at = known.observed_at;
        assert_eq!(lock, known);
    }
    Ok(())
}

/// A release by force ends all shared grants, and returns them.
pub async fn a_release_by_force_ends_all_shared_grants<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = operating_clients(&h).await?;
    let readers = [(); 3].map(|()| permit_for("k", 3, LONG));
    for reader in &readers {
        granted(&a, reader).await;
    }
    let record = b.force_release(&key("k")).await.expect("the store answers").expect("was held");
    let ended: Vec<_> = record.holders.iter().map(|holder| holder.lock_id).collect();
    assert_eq!(ended, readers.each_ref().map(|reader| reader.lock_id));
    assert_eq!((record.mode, record.fence.number()), (readers[0].mode, 3));
    for reader in &readers {
        extend_reports_not_held(&a, lock_of(reader)).await;
        assert!(found(&a, reader.lock_id).await.is_none());
    }
    assert!(!is_locked(&a, "k").await);
    assert_eq!(granted(&a, &request_for("k", LONG)).await.fence.number(), 4);
    Ok(())
}

/// A release by force removes the announcement, also if no one holds the key any more.
pub async fn a_release_by_force_removes_the_announcement<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = operating_clients(&h).await?;
    for is_held in [true, false] {
        let reader = reader_for("k", LONG);
        granted(&a, &reader).await;
        contended(&a, &announced_for("k", LONG)).await;
        if !is_held {
            released(&a, lock_of(&reader)).await;
        }
        let record = b.force_release(&key("k")).await.expect("the store answers");
        assert_eq!(record.is_some(), is_held);
        let next = reader_for("k", LONG);
        granted(&a, &next).await;
        released(&a, lock_of(&next)).await;
    }
    Ok(())
}

/// Contention with readers reports their mode, number and highest fence, and when the last of them
/// expires, which is when the key is free for a writer.
pub async fn contention_with_readers_reports_the_last_to_expire<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    granted(&a, &reader_for("k", LONG * 3).with_owner(Owner::new("one of them").ok())).await;
    let last = granted(&a, &reader_for("k", LONG)).await.fence;
    let holder = contended(&b, &request_for("k", LONG)).await.expect("something is known");
    assert_eq!((holder.mode, holder.fence), (Mode::SHARED, Some(last)));
    assert!(holder.count.is_none_or(|count| count == 2), "{holder:?}");
    assert_eq!(holder.owner, None);
    let remaining = holder.remaining.expect("it is known");
    assert!(remaining <= LONG * 3 && remaining > LONG * 2, "{holder:?}");
    let free_in = holder.free_in.expect("it is known");
    let difference = free_in.abs_diff(remaining + b.capabilities().grace);
    assert!(difference <= CLOCK_READINGS, "{holder:?}");
    Ok(())
}

/// Contention for a permit reports when the first holder expires, which is when a permit is free.
pub async fn contention_for_a_permit_reports_the_first_to_expire<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    for times in [3, 1, 2] {
        granted(&a, &permit_for("k", 3, LONG * times)).await;
    }
    let request = permit_for("k", 3, LONG);
    let holder = contended(&b, &request).await.expect("something is known");
    assert_eq!(holder.mode, request.mode);
    assert!(holder.count.is_none_or(|count| count == 3), "{holder:?}");
    let free_in = holder.free_in.expect("it is known");
    let longest = LONG + b.capabilities().grace;
    assert!(free_in <= longest && free_in > LONG / 2, "{holder:?}");
    Ok(())
}

/// Contention of a reader with a writer reports the writer, as to another writer.
pub async fn contention_with_a_writer_reports_the_writer<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let owner = Owner::new("writer").ok();
    let grant = granted(&a, &request_for("k", LONG).with_owner(owner.clone())).await;
    let holder = contended(&b, &reader_for("k", LONG)).await.expect("something is known");
    assert_eq!((holder.mode, holder.fence), (Mode::Exclusive, Some(grant.fence)));
    assert_eq!((holder.owner, holder.count), (owner, None));
    let remaining = holder.remaining.expect("it is known");
    assert_eq!(holder.free_in, Some(remaining + b.capabilities().grace));
    Ok(())
}
