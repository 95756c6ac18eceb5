//! Shared mode with a number of permits, as with a semaphore.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use tokio::task::JoinSet;

use super::{CaseOutcome, Harness, steps::*};
use crate::{
    ErrorKind,
    backend::{AcquireOutcome, AcquireRequest, LockBackend},
};

/// Acquires as many permits of "k" as there are, and returns their requests.
async fn all_permits<const N: usize>(backend: &impl LockBackend) -> [AcquireRequest; N] {
    let permits = u32::try_from(N).expect("it is small");
    let requests = [(); N].map(|()| permit_for("k", permits, LONG));
    for request in &requests {
        granted(backend, request).await;
    }
    requests
}

/// As many holders are admitted as there are permits, and no more.
pub async fn as_many_holders_as_permits_are_admitted<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let held = all_permits::<3>(&a).await;
    for client in [&a, &b] {
        contended(client, &permit_for("k", 3, LONG)).await;
    }
    assert_eq!(sharers_of(&b, "k").await, held.map(|request| request.lock_id));
    Ok(())
}

/// One permit excludes all others, as an exclusive grant does.
pub async fn a_single_permit_admits_one_holder<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let [holder] = all_permits::<1>(&a).await;
    contended(&b, &permit_for("k", 1, LONG)).await;
    contended(&b, &request_for("k", LONG)).await;
    released(&b, lock_of(&holder)).await;
    granted(&b, &permit_for("k", 1, LONG)).await;
    Ok(())
}

/// The number of permits may be as large as its type allows, and is kept as it is.
pub async fn the_largest_number_of_permits_works<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let request = permit_for("k", u32::MAX, LONG);
    granted(&a, &request).await;
    granted(&b, &permit_for("k", u32::MAX, LONG)).await;
    assert_eq!(record_of(&b, "k").await.mode, request.mode);
    let other = permit_for("k", u32::MAX - 1, LONG);
    error_of(b.acquire(&other).await, ErrorKind::InvalidArgument);
    Ok(())
}

/// Of many that race for the permits, exactly as many as there are permits are granted one.
pub async fn a_race_for_the_permits_admits_no_more_than_there_are<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let mut tasks = JoinSet::new();
    for n in 0..16 {
        let client = if n % 2 == 0 { a.clone() } else { b.clone() };
        let request = permit_for("k", 5, LONG);
        tasks.spawn(async move { client.acquire(&request).await.expect("the store answers") });
    }
    let outcomes = tasks.join_all().await;
    let granted = outcomes.iter().filter(|o| matches!(o, AcquireOutcome::Granted(_)));
    assert_eq!(granted.count(), 5);
    assert_eq!(sharers_of(&a, "k").await.len(), 5);
    Ok(())
}

/// Acquires and releases that race never let more in than there are permits, and lose none.
pub async fn racing_acquires_and_releases_lose_no_permit<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let inside = Arc::new(AtomicU32::new(0));
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let (client, inside) = (if task % 2 == 0 { a.clone() } else { b.clone() }, inside.clone());
        tasks.spawn(async move {
            for _ in 0..8 {
                let request = permit_for("k", 3, LONG);
                let outcome = client.acquire(&request).await.expect("the store answers");
                let AcquireOutcome::Granted(_) = outcome else { continue };
                let others = inside.fetch_add(1, Ordering::SeqCst);
                assert!(others < 3, "{others} others are inside");
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
                released(&client, lock_of(&request)).await;
            }
        });
    }
    assert_eq!(tasks.join_all().await.len(), 8);
    all_permits::<3>(&b).await;
    contended(&a, &permit_for("k", 3, LONG)).await;
    Ok(())
}

/// A permit becomes free when its holder releases it or is abandoned, for one other holder.
pub async fn a_freed_permit_admits_one_more<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let [first, second, _third] = all_permits::<3>(&a).await;
    released(&b, lock_of(&first)).await;
    granted(&b, &permit_for("k", 3, LONG)).await;
    contended(&a, &permit_for("k", 3, LONG)).await;
    abandoned(&b, &second).await;
    granted(&a, &permit_for("k", 3, LONG)).await;
    contended(&b, &permit_for("k", 3, LONG)).await;
    Ok(())
}

/// A permit becomes free when its holder expires, although others go on holding theirs.
pub async fn an_expired_permit_admits_one_more<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    granted(&a, &permit_for("k", 2, LONG)).await;
    granted(&a, &permit_for("k", 2, SHORT)).await;
    expire(&h, &a, SHORT).await;
    granted(&b, &permit_for("k", 2, LONG)).await;
    contended(&b, &permit_for("k", 2, LONG)).await;
    Ok(())
}

/// A request with another number of permits, or with none, is rejected with an error that names
/// both, and changes nothing.
pub async fn another_number_of_permits_is_rejected<H: Harness>(h: H) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    granted(&a, &permit_for("k", 4, LONG)).await;
    granted(&a, &reader_for("read", LONG)).await;
    let before = (sharers_of(&a, "k").await, sharers_of(&a, "read").await);
    for (request, held) in [
        (permit_for("k", 5, LONG), "shared mode with 4 permits"),
        (permit_for("k", 3, LONG), "shared mode with 4 permits"),
        (reader_for("k", LONG), "shared mode with 4 permits"),
        (permit_for("read", 4, LONG), "shared mode;"),
    ] {
        let error = error_of(b.acquire(&request).await, ErrorKind::InvalidArgument);
        assert!(!error.may_have_applied(), "{error}");
        let shown = error.to_string();
        assert!(shown.contains(held) && shown.contains(&request.mode.to_string()), "{shown}");
        assert!(found(&b, request.lock_id).await.is_none());
    }
    assert_eq!((sharers_of(&a, "k").await, sharers_of(&a, "read").await), before);
    assert_eq!(granted(&b, &permit_for("k", 4, LONG)).await.fence.number(), 2);
    Ok(())
}

/// A repeated request returns the grant of its permit, although no permit is free.
pub async fn a_repeated_request_takes_no_second_permit<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let request = permit_for("k", 2, LONG);
    let grant = granted(&a, &request).await;
    assert_eq!(granted(&b, &request).await, grant);
    granted(&b, &permit_for("k", 2, LONG)).await;
    assert_eq!(granted(&a, &request).await, grant);
    assert_eq!(sharers_of(&a, "k").await.len(), 2);
    Ok(())
}

/// Once all have left, by release, abandon or expiry, the key is granted with another number of
/// permits.
pub async fn the_number_of_permits_is_that_of_the_current_holders<H: Harness>(
    h: H,
) -> Result<(), CaseOutcome> {
    let (a, b) = sharing_clients(&h).await?;
    let (two, three) = (permit_for("k", 2, LONG), permit_for("k", 3, LONG));
    granted(&a, &two).await;
    released(&a, lock_of(&two)).await;
    granted(&b, &three).await;
    abandoned(&b, &three).await;
    granted(&a, &permit_for("k", 1, SHORT)).await;
    expire(&h, &a, SHORT).await;
    let reader = reader_for("k", LONG);
    granted(&b, &reader).await;
    assert_eq!(record_of(&a, "k").await.mode, reader.mode);
    assert_eq!(sharers_of(&a, "k").await, [reader.lock_id]);
    Ok(())
}
