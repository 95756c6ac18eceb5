//! Readers that share a key, and writers that do not.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::{sync::RwLock, task::JoinSet};

use super::{CaseOutcome, Harness, Hook, steps::*};
use crate::{
    ErrorKind, Fence, Owner,
    backend::{AcquireOutcome, Fencing, LockBackend, Mode},
};

/// Readers hold the key at the same time, those of one client and those of several.
pub async fn readers_share_a_key<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let readers = [(); 4].map(|()| reader_for("k", LONG));
    for (n, reader) in readers.iter().enumerate() {
        granted(if n % 2 == 0 { &a } else { &b }, reader).await;
    }
    assert_eq!(sharers_of(&a, "k").await, readers.map(|reader| reader.lock_id));
    Ok(())
}

/// Readers that request the key at the same time are all granted, each under its own fence.
pub async fn readers_that_race_are_all_granted<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    const READERS: usize = 12;
    let (a, b) = sharing_clients(&h).await?;
    let mut tasks = JoinSet::new();
    for n in 0..READERS {
        let client = if n % 2 == 0 { a.clone() } else { b.clone() };
        tasks.spawn(async move { granted(&client, &reader_for("k", LONG)).await.fence });
    }
    let mut fences = tasks.join_all().await;
    fences.sort();
    fences.dedup();
    assert_eq!(fences.len(), READERS);
    assert_eq!(sharers_of(&a, "k").await.len(), READERS);
    Ok(())
}

/// While readers hold the key, no writer is granted, until the last of them has left.
pub async fn a_writer_waits_for_the_last_reader<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let (readers, writer) = ([(); 3].map(|()| reader_for("k", LONG)), request_for("k", LONG));
    for reader in &readers {
        granted(&a, reader).await;
    }
    for reader in &readers {
        contended(&a, &writer).await;
        contended(&b, &writer).await;
        released(&a, lock_of(reader)).await;
    }
    granted(&b, &writer).await;
    Ok(())
}

/// While a writer holds the key, no reader is granted.
pub async fn a_reader_waits_for_the_writer<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let (writer, reader) = (request_for("k", LONG), reader_for("k", LONG));
    granted(&a, &writer).await;
    for client in [&a, &b] {
        contended(client, &reader).await;
        contended(client, &permit_for("k", 3, LONG)).await;
    }
    released(&a, lock_of(&writer)).await;
    granted(&b, &reader).await;
    Ok(())
}

/// If readers and writers request a free key at the same time, either one writer is granted, or
/// only readers are.
pub async fn racing_readers_and_writers_never_overlap<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let inside = Arc::new((RwLock::new(()), AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let client = if task % 2 == 0 { a.clone() } else { b.clone() };
        let inside = inside.clone();
        tasks.spawn(async move {
            for round in 0..8 {
                let writes = (task + round) % 3 == 0;
                let request = if writes { request_for("k", LONG) } else { reader_for("k", LONG) };
                let outcome = client.acquire(&request).await.expect("the store answers");
                let AcquireOutcome::Granted(grant) = outcome else { continue };
                let (lock, highest) = &*inside;
                let others = "no one else is inside";
                let reads = (!writes).then(|| lock.try_read().expect(others));
                let alone = writes.then(|| lock.try_write().expect(others));
                let before = highest.fetch_max(grant.fence.number(), Ordering::SeqCst);
                assert!(!writes || before < grant.fence.number(), "{before} before {grant:?}");
                tokio::task::yield_now().await;
                drop((reads, alone));
                released(&client, lock_of(&request)).await;
            }
        });
    }
    assert_eq!(tasks.join_all().await.len(), 8);
    granted(&a, &request_for("k", LONG)).await;
    Ok(())
}

/// Each holder has its own fence, expiry, owner and start.
pub async fn each_holder_has_its_own_grant<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let owner = Owner::new("reader \"2\" of {ü}, 'x'\\").ok();
    let first = reader_for("k", LONG);
    let second = reader_for("k", LONG * 2).with_owner(owner.clone());
    let grants = [granted(&a, &first).await, granted(&b, &second).await];
    assert!(grants[0].fence < grants[1].fence, "{grants:?}");
    assert!(grants[1].expires_at.since(grants[0].expires_at) > LONG / 2, "{grants:?}");
    let holders = record_of(&a, "k").await.holders;
    assert_eq!(
        holders.iter().map(|holder| holder.lock_id).collect::<Vec<_>>(),
        [first.lock_id, second.lock_id]
    );
    assert_eq!(holders.iter().map(|holder| holder.grant()).collect::<Vec<_>>(), grants);
    assert_eq!((&holders[0].owner, &holders[1].owner), (&None, &owner));
    for (holder, request) in holders.iter().zip([&first, &second]) {
        assert_eq!(holder.expires_at, holder.acquired_at.after(request.ttl));
    }
    Ok(())
}

/// The fences of a key increase over grants of both modes, without gaps.
pub async fn fences_increase_across_both_modes<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    for number in [1, 4, 7] {
        let requests = [reader_for("k", LONG), reader_for("k", LONG)];
        for (n, reader) in requests.iter().enumerate() {
            assert_eq!(granted(&a, reader).await.fence.number(), number + n as u64);
        }
        for reader in &requests {
            released(&b, lock_of(reader)).await;
        }
        let writer = request_for("k", LONG);
        assert_eq!(granted(&b, &writer).await.fence.number(), number + 2);
        released(&a, lock_of(&writer)).await;
    }
    Ok(())
}

/// The release of one reader ends its grant, and leaves those of the others as they were.
pub async fn a_released_reader_leaves_the_others<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let readers = [(); 3].map(|()| reader_for("k", LONG));
    for reader in &readers {
        granted(&a, reader).await;
    }
    let before = record_of(&a, "k").await.holders;
    released(&b, lock_of(&readers[1])).await;
    extend_reports_not_held(&a, lock_of(&readers[1])).await;
    let after = record_of(&b, "k").await.holders;
    assert_eq!(after, [before[0].clone(), before[2].clone()]);
    released(&b, lock_of(&readers[0])).await;
    assert_eq!(record_of(&b, "k").await.holders, [before[2].clone()]);
    contended(&b, &request_for("k", LONG)).await;
    Ok(())
}

/// The extend of one reader moves its expiry alone, and keeps its fence, owner and start.
pub async fn an_extended_reader_leaves_the_others<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let readers = [(); 3].map(|()| reader_for("k", LONG));
    for reader in &readers {
        granted(&a, reader).await;
    }
    let before = record_of(&a, "k").await.holders;
    extended(&b, lock_of(&readers[1]), LONG * 2).await;
    let mut after = record_of(&b, "k").await.holders;
    assert!(after[1].expires_at.since(before[1].expires_at) >= LONG, "{after:?}");
    after[1].expires_at = before[1].expires_at;
    assert_eq!(after, before);
    Ok(())
}

/// Extends and releases of the holders of a key that race each apply to their own grant: none
/// overwrites what another has written.
pub async fn racing_holders_change_only_their_own_grants<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let readers = [(); 8].map(|()| reader_for("k", LONG));
    for reader in &readers {
        granted(&a, reader).await;
    }
    let before = record_of(&a, "k").await.expires_at;
    let mut tasks = JoinSet::new();
    for (n, reader) in readers.iter().enumerate() {
        let (client, lock) = (if n < 4 { a.clone() } else { b.clone() }, lock_of(reader));
        tasks.spawn(async move {
            match n % 2 {
                0 => extended(&client, lock, LONG * 2).await,
                _ => released(&client, lock).await,
            }
        });
    }
    tasks.join_all().await;
    let holders = record_of(&b, "k").await.holders;
    let left: Vec<_> = holders.iter().map(|holder| holder.lock_id).collect();
    assert_eq!(left, [0, 2, 4, 6].map(|n: usize| readers[n].lock_id));
    assert!(holders.iter().all(|holder| holder.expires_at > before), "{holders:?}");
    Ok(())
}

/// The abandon of one reader ends its grant, and leaves those of the others as they were.
pub async fn an_abandoned_reader_leaves_the_others<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let readers = [(); 3].map(|()| reader_for("k", LONG));
    for reader in &readers {
        granted(&a, reader).await;
    }
    let before = record_of(&a, "k").await.holders;
    abandoned(&b, &readers[2]).await;
    assert_eq!(record_of(&b, "k").await.holders, before[..2]);
    extend_reports_not_held(&a, lock_of(&readers[2])).await;
    contended(&b, &request_for("k", LONG)).await;
    Ok(())
}

/// A key is free once its last reader has left, for a writer as for a reader.
pub async fn a_key_is_free_after_its_last_reader<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let readers = [reader_for("k", LONG), reader_for("k", LONG)];
    for reader in &readers {
        granted(&a, reader).await;
        assert!(is_locked(&b, "k").await);
    }
    released(&a, lock_of(&readers[0])).await;
    assert!(is_locked(&b, "k").await);
    abandoned(&a, &readers[1]).await;
    assert!(!is_locked(&b, "k").await && found(&b, key("k")).await.is_none());
    let writer = request_for("k", LONG);
    granted(&b, &writer).await;
    released(&b, lock_of(&writer)).await;
    granted(&a, &reader_for("k", LONG)).await;
    Ok(())
}

/// An id that holds the key in one mode is refused it in the other, and keeps what it has.
pub async fn an_id_holds_a_key_in_one_mode<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let (reader, writer) = (reader_for("read", LONG), request_for("written", LONG));
    let grants = (granted(&a, &reader).await, granted(&a, &writer).await);
    contended(&b, &reader.clone().with_mode(Mode::Exclusive)).await;
    contended(&b, &writer.clone().with_mode(Mode::SHARED)).await;
    assert_eq!((granted(&a, &reader).await, granted(&a, &writer).await), grants);
    assert_eq!(record_of(&a, "read").await.mode, Mode::SHARED);
    assert_eq!(record_of(&a, "written").await.mode, Mode::Exclusive);
    Ok(())
}

/// Each key has its own mode and holders.
pub async fn each_key_has_its_own_mode<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let reader = reader_for("read", LONG);
    granted(&a, &reader).await;
    granted(&a, &request_for("written", LONG)).await;
    granted(&a, &permit_for("one", 1, LONG)).await;
    granted(&b, &permit_for("two", 2, LONG)).await;
    granted(&b, &reader_for("read", LONG)).await;
    contended(&b, &request_for("read", LONG)).await;
    contended(&b, &reader_for("written", LONG)).await;
    contended(&b, &permit_for("one", 1, LONG)).await;
    granted(&b, &permit_for("two", 2, LONG)).await;
    released(&b, lock_of(&reader)).await;
    let all = ["read", "written", "one", "two"];
    for (text, holders) in all.into_iter().zip([1, 0, 1, 2]) {
        assert_eq!(record_of(&a, text).await.holders.len(), holders, "{text}");
    }
    Ok(())
}

/// Keys of any text are shared, and the longest ones.
pub async fn keys_of_any_text_are_shared<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let longest = "é".repeat(256);
    for text in ["{k}", "k:readers", "id:k", "nul\0", "a/b", "'\"\\", "%_*", "🔒", &longest] {
        let readers = [reader_for(text, LONG), reader_for(text, LONG)];
        for reader in &readers {
            granted(&a, reader).await;
        }
        contended(&b, &announced_for(text, LONG)).await;
        assert_eq!(sharers_of(&b, text).await, readers.each_ref().map(|reader| reader.lock_id));
        for reader in &readers {
            assert_eq!(found(&b, reader.lock_id).await.expect("it holds").key, reader.key);
            released(&b, reader.lock_id.into()).await;
        }
        assert!(!is_locked(&a, text).await, "{text}");
    }
    Ok(())
}

/// At the limit of the fence counter, a request in shared mode fails before anything is stored.
pub async fn a_reader_at_the_fence_limit_is_rejected<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let last = Fence::new(Fence::LIMIT.number() - 1).expect("it fits");
    h.seed_fence(&key("k"), last).await.or_skip("the harness cannot set a fence counter")?;
    let (reader, rejected) = (reader_for("k", LONG), reader_for("k", LONG));
    assert_eq!(granted(&a, &reader).await.fence, Fence::LIMIT);
    for present in [&[reader.lock_id][..], &[]] {
        let error = error_of(b.acquire(&rejected).await, ErrorKind::Internal);
        assert!(!error.may_have_applied());
        assert_eq!(sharers_of(&b, "k").await, present);
        if !present.is_empty() {
            released(&a, lock_of(&reader)).await;
        }
    }
    assert!(!is_locked(&a, "k").await);
    Ok(())
}

/// Shared grants, their number of permits and announcements survive a restart of a store that
/// reports itself durable.
pub async fn shared_grants_survive_a_restart<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, _) = sharing_clients(&h).await?;
    if a.capabilities().fencing != Fencing::Durable {
        return Err(CaseOutcome::Skipped("the store does not claim to be durable"));
    }
    let (permit, reader) = (permit_for("permits", 2, LONG), reader_for("k", LONG));
    granted(&a, &permit).await;
    granted(&a, &reader).await;
    let writer = announced_for("k", LONG);
    contended(&a, &writer).await;
    assert_eq!(h.restart().await, Hook::Done, "a durable store must be restarted");
    let b = h.client().await;
    assert_eq!(granted(&b, &permit).await.fence.number(), 1);
    error_of(b.acquire(&permit_for("permits", 3, LONG)).await, ErrorKind::InvalidArgument);
    contended(&b, &reader_for("k", LONG)).await;
    abandoned(&b, &writer).await;
    assert_eq!(granted(&b, &reader_for("k", LONG)).await.fence.number(), 2);
    released(&b, lock_of(&reader)).await;
    Ok(())
}
