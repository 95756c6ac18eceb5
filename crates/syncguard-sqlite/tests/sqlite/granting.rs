use syncguard_core::{
    ErrorKind, Fence, LockId, LockManager, Owner, ReleaseOutcome, Renew, Ttl,
    backend::{AcquireOutcome, AcquireRequest, LockBackend, LockQuery, LockRef},
};

use crate::{
    Scratch, acquire_and_release, acquire_error, granted, key, lock_of, release, request, ttl,
};

/// Reads the clock that SQLite uses, as a statement of its own.
const NOW_MS: &str = "SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER)";

#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_counts_from_the_grant_not_from_the_wait_before_it() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let mut foreign = scratch.foreign().await;
    foreign.block_writers().await;
    let asked = foreign.number(NOW_MS).await;
    let request = request("key");
    let waiting = tokio::spawn({
        let (backend, request) = (backend.clone(), request.clone());
        async move { granted(&backend, &request).await }
    });
    while foreign.number(NOW_MS).await < asked + 300 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let freed = foreign.number(NOW_MS).await;
    foreign.unblock_writers().await;
    let expires = waiting.await.unwrap().expires_at.unix_millis();
    assert!(expires - request.ttl.as_millis() >= freed, "{expires} - ttl is before {freed}");
}

#[tokio::test]
async fn sqlite_reads_the_clock_after_it_waited_for_the_write_lock() {
    let scratch = Scratch::new();
    scratch.open().await;
    let mut foreign = scratch.foreign().await;
    foreign.block_writers().await;
    // This connection waits inside SQLite, in its busy handler, as those of the backend never do.
    let path = scratch.path();
    let waiting = tokio::spawn(async move {
        let mut connection = crate::Foreign::open(&path).await.0;
        sqlx::query(include_str!("../../src/sql/acquire.sql"))
            .bind("key")
            .bind("id")
            .bind(None::<String>)
            .bind(0)
            .bind(1_000)
            .bind(10)
            .bind(0)
            .fetch_all(&mut connection)
            .await
            .unwrap()
    });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(!waiting.is_finished(), "the write lock was not in the way");
    let freed = foreign.number(NOW_MS).await;
    foreign.unblock_writers().await;
    let rows = waiting.await.unwrap();
    let expires: i64 = sqlx::Row::get(&rows[0], "expires_at_ms");
    assert!(expires >= freed, "{expires} is before {freed}");
}

/// The row that the acquire read is gone, and with it the value on which the write was decided.
#[tokio::test]
async fn a_grant_decided_on_a_counter_that_was_retired_since_is_made_under_a_higher_fence() {
    let scratch = Scratch::new();
    scratch.open().await;
    let mut foreign = scratch.foreign().await;
    let retired = foreign.number(NOW_MS).await - 2 * 24 * 3_600_000;
    let rows = sqlx::query(include_str!("../../src/sql/acquire.sql"))
        .bind("key")
        .bind("id")
        .bind(None::<String>)
        .bind(1_000)
        .bind(1_000)
        .bind(retired)
        .bind(1)
        .fetch_all(&mut foreign.0)
        .await
        .unwrap();
    let fence: i64 = sqlx::Row::get(&rows[0], "fence");
    assert!(fence > retired, "{fence} after {retired}");
}

#[tokio::test]
async fn milliseconds_survive_the_conversion_from_sqlites_fraction_of_a_second() {
    let mut foreign = Scratch::new().foreign().await;
    let wrong = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
        SELECT count(*) FROM n WHERE i + 1763640000000 <> CAST(round(unixepoch(
            strftime('%Y-%m-%d %H:%M:%S', 1763640000 + i / 1000, 'unixepoch')
            || printf('.%03d', i % 1000), 'subsec') * 1000) AS INTEGER)";
    assert_eq!(foreign.number(wrong).await, 0);
}

#[tokio::test]
async fn a_contended_acquire_needs_no_write_lock_and_writes_nothing() {
    let scratch = Scratch::new();
    let backend = scratch.open_with_short_timeout().await;
    let owner = Some(Owner::new("web-3").unwrap());
    let held = request("key").with_owner(owner.clone());
    let grant = granted(&backend, &held).await;
    let mut foreign = scratch.foreign().await;
    let version = foreign.number("PRAGMA data_version").await;
    foreign.block_writers().await;
    let AcquireOutcome::Contended { holder: Some(holder) } =
        backend.acquire(&request("key")).await.unwrap()
    else {
        panic!("not contended");
    };
    assert_eq!((holder.fence, holder.owner), (Some(grant.fence), owner));
    assert!(holder.remaining.is_some_and(|left| left <= held.ttl.as_duration()));
    assert_eq!(granted(&backend, &held).await, grant, "the same id finds its grant");
    foreign.unblock_writers().await;
    assert_eq!(foreign.number("PRAGMA data_version").await, version);
}

#[tokio::test]
async fn an_acquire_at_the_fence_limit_is_refused_and_stores_nothing() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    acquire_and_release(&backend, "key").await;
    let mut foreign = scratch.foreign().await;
    foreign.run("UPDATE syncguard_locks SET fence = 899999999999999").await;
    assert_eq!(acquire_and_release(&backend, "key").await, Fence::LIMIT.number());
    let error = acquire_error(&backend, &request("key")).await;
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    assert!(!error.may_have_applied());
    assert!(!backend.is_locked(&key("key")).await.unwrap());
    let fence = foreign.number("SELECT fence FROM syncguard_locks").await;
    assert_eq!(fence, 900_000_000_000_000);
}

#[tokio::test]
async fn an_acquire_with_an_invalid_counter_is_refused_and_stores_nothing() {
    let scratch = Scratch::new();
    let mut foreign = scratch.foreign().await;
    foreign.run(crate::mutants::LOOSE_TABLES).await;
    let backend = scratch.open().await;
    let counters = [
        "-1",
        "900000000000000",
        "900000000000001",
        "1000000000000000",
        "9223372036854775807",
        "'7'",
        "'x'",
        "''",
        "NULL",
        "7.0",
        "-9e999",
        "9e999",
        "x'37'",
    ];
    for (number, counter) in counters.into_iter().enumerate() {
        let name = format!("key-{number}");
        foreign.plant(&name, [counter, "NULL", "NULL", "NULL", "NULL"]).await;
        let before = foreign.record(&name).await;
        let error = acquire_error(&backend, &request(&name)).await;
        assert_eq!(error.kind(), ErrorKind::Internal, "{counter}: {error}");
        assert!(!error.may_have_applied(), "{counter}: {error}");
        assert_eq!(foreign.record(&name).await, before, "{counter}");
        assert!(!backend.is_locked(&key(&name)).await.unwrap(), "{counter}");
    }
    foreign.plant("last", ["899999999999999", "NULL", "NULL", "NULL", "NULL"]).await;
    assert_eq!(acquire_and_release(&backend, "last").await, Fence::LIMIT.number());
    foreign.plant("first", ["0", "NULL", "NULL", "NULL", "NULL"]).await;
    assert_eq!(acquire_and_release(&backend, "first").await, 1);
}

/// Between the read and the write, the clock may be set back, so that an expired grant is in its
/// grace again. Here a second connection changes the expiry instead.
#[tokio::test]
async fn a_grant_that_is_in_its_grace_at_the_time_of_the_write_keeps_its_key() {
    const OVER: &str = "UPDATE syncguard_locks SET expires_at_ms = 1";
    const IN_GRACE: &str = "UPDATE syncguard_locks
        SET expires_at_ms = CAST(round(unixepoch('subsec') * 1000) AS INTEGER)";
    const GRACE_MS: i64 = 1_000;
    for _ in 0..20 {
        let scratch = Scratch::new();
        let backend = scratch.open().await;
        granted(&backend, &request("key")).await;
        let mut foreign = scratch.foreign().await;
        foreign.run(OVER).await;
        foreign.block_writers().await;
        let wanted = request("key");
        let mut acquiring = std::pin::pin!(backend.acquire(&wanted));
        assert!(crate::queueing::is_pending(&mut acquiring).await, "the write was not held up");
        crate::queueing::settle(&backend).await;
        foreign.run(IN_GRACE).await;
        let expired = foreign.number("SELECT expires_at_ms FROM syncguard_locks").await;
        foreign.unblock_writers().await;
        match acquiring.await.unwrap() {
            AcquireOutcome::Contended { .. } => return,
            // On a busy machine the grace may be over by then.
            AcquireOutcome::Granted(grant) => {
                let granted_at = grant.expires_at.unix_millis() - wanted.ttl.as_millis();
                assert!(granted_at >= expired + GRACE_MS, "granted within the grace");
            }
        }
    }
    panic!("the write was late each time");
}

#[tokio::test]
async fn an_id_that_was_abandoned_before_its_acquire_is_refused_permanently() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let late = request("key");
    backend.abandon(late.lock_id, &late.key).await.unwrap();
    let other = scratch.open().await;
    for backend in [&backend, &other] {
        let error = acquire_error(backend, &late).await;
        assert_eq!(error.kind(), ErrorKind::Aborted, "{error}");
        assert!(!error.may_have_applied());
    }
    assert_eq!(acquire_and_release(&backend, "key").await, 1, "no fence was used up");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acquire_that_is_overtaken_by_its_abandon_is_refused() {
    let scratch = Scratch::new();
    let (backend, other) = (scratch.open().await, scratch.open().await);
    let mut foreign = scratch.foreign().await;
    let late = request("key");
    foreign.block_writers().await;
    let acquiring = tokio::spawn({
        let (backend, late) = (backend.clone(), late.clone());
        async move { backend.acquire(&late).await }
    });
    // Writes the tombstone as the abandon would, before an acquire that waits for the write lock.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    sqlx::query("INSERT INTO syncguard_abandoned VALUES (?1, 99999999999999)")
        .bind(late.lock_id.as_str().to_owned())
        .execute(&mut foreign.0)
        .await
        .unwrap();
    assert!(!acquiring.is_finished(), "the acquire was not on its way any more");
    foreign.unblock_writers().await;
    let error = acquiring.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Aborted, "{error}");
    assert!(!other.is_locked(&late.key).await.unwrap());
}

#[tokio::test]
async fn an_abandoned_grant_ends_immediately() {
    let backend = Scratch::new();
    let backend = backend.open().await;
    let held = request("key");
    granted(&backend, &held).await;
    backend.abandon(held.lock_id, &held.key).await.unwrap();
    backend.abandon(held.lock_id, &held.key).await.unwrap();
    assert!(backend.lookup(&LockQuery::ById(held.lock_id)).await.unwrap().is_none());
    assert_eq!(acquire_error(&backend, &held).await.kind(), ErrorKind::Aborted);
    assert_eq!(acquire_and_release(&backend, "key").await, 2);
}

#[tokio::test]
async fn old_tombstones_are_pruned_and_recent_ones_kept() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let mut foreign = scratch.foreign().await;
    let (old, young) = (LockId::mint().unwrap(), LockId::mint().unwrap());
    backend.abandon(old, &key("key")).await.unwrap();
    foreign.run("UPDATE syncguard_abandoned SET until_ms = 1").await;
    for _ in 0..64 {
        backend.abandon(young, &key("key")).await.unwrap();
    }
    let tombstones = "SELECT count(*) FROM syncguard_abandoned";
    assert_eq!(foreign.number(tombstones).await, 1);
    let request = AcquireRequest::new(key("key"), young, Ttl::default());
    assert_eq!(acquire_error(&backend, &request).await.kind(), ErrorKind::Aborted);
}

#[tokio::test]
async fn a_wrong_key_hint_is_ignored() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let (ours, theirs) = (request("ours"), request("theirs"));
    granted(&backend, &ours).await;
    granted(&backend, &theirs).await;
    let hinted = LockRef::new(ours.lock_id, theirs.key.clone());
    let extended = backend.extend(&hinted, ttl(60_000)).await.unwrap();
    assert!(matches!(extended, syncguard_core::backend::ExtendOutcome::Extended { .. }));
    assert_eq!(backend.release(&hinted).await.unwrap(), ReleaseOutcome::Released);
    assert!(!backend.is_locked(&ours.key).await.unwrap());
    assert!(backend.is_locked(&theirs.key).await.unwrap());
}

#[tokio::test]
async fn an_id_that_holds_a_key_is_granted_no_other_key() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let held = request("patient:jane-doe");
    granted(&backend, &held).await;
    let again = AcquireRequest::new(key("patient:john-doe"), held.lock_id, Ttl::default());
    let error = acquire_error(&backend, &again).await;
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert!(!error.may_have_applied());
    assert!(!format!("{error} {error:?}").contains("-doe"), "{error:?}");
    assert_eq!(acquire_and_release(&backend, "patient:john-doe").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_contenders_holds_the_lock_and_the_fences_increase() {
    let scratch = Scratch::new();
    let mut tasks = tokio::task::JoinSet::new();
    let last = std::sync::Arc::new(tokio::sync::Mutex::new(0));
    for backend in [scratch.open().await, scratch.open().await] {
        for _ in 0..4 {
            let (backend, last) = (backend.clone(), last.clone());
            tasks.spawn(async move {
                let mut grants = 0;
                while grants < 20 {
                    let request = request("key");
                    let outcome = backend.acquire(&request).await.unwrap();
                    let AcquireOutcome::Granted(grant) = outcome else {
                        continue;
                    };
                    let mut last = last.try_lock().expect("two holders");
                    assert!(grant.fence.number() > *last);
                    *last = grant.fence.number();
                    tokio::task::yield_now().await;
                    drop(last);
                    release(&backend, &request).await;
                    grants += 1;
                }
            });
        }
    }
    tasks.join_all().await;
    assert_eq!(*last.lock().await, 160, "contention used up fences");
}

#[tokio::test]
async fn an_expired_grant_cannot_be_extended_or_released() {
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let held = request("key");
    granted(&backend, &held).await;
    let expire = "UPDATE syncguard_locks SET expires_at_ms = expires_at_ms - 40000";
    scratch.foreign().await.run(expire).await;
    let extended = backend.extend(&lock_of(&held), ttl(60_000)).await.unwrap();
    assert!(matches!(extended, syncguard_core::backend::ExtendOutcome::NotHeld(_)));
    let released = backend.release(&lock_of(&held)).await.unwrap();
    assert!(matches!(released, ReleaseOutcome::NotHeld(_)));
    assert_eq!(acquire_and_release(&backend, "key").await, 2);
}

/// A clock that jumps ahead moves every stored expiry closer. The jump is simulated by changing the
/// expiries.
async fn jump_ahead(scratch: &Scratch, jump: &'static str) {
    scratch.foreign().await.run(jump).await;
}

#[tokio::test]
async fn a_clock_that_jumps_past_an_expiry_ends_the_lock_and_extend_reports_it() {
    const JUMP: &str = "UPDATE syncguard_locks SET acquired_at_ms = acquired_at_ms - 32000, \
                        expires_at_ms = expires_at_ms - 32000";
    for taken in [false, true] {
        let scratch = Scratch::new();
        let backend = scratch.open().await;
        let locks = LockManager::new(backend.clone());
        let guard = locks.lock("key").renew(Renew::Never).acquire().await.unwrap();
        jump_ahead(&scratch, JUMP).await;
        if taken {
            let next = granted(&scratch.open().await, &request("key")).await;
            assert!(next.fence > guard.fence().unwrap(), "the resource tells them apart");
        }
        assert!(guard.is_valid(), "the boot clock knows nothing of it");
        let error = guard.extend(ttl(30_000)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
        assert!(!guard.is_valid());
    }
}

#[tokio::test]
async fn an_extend_after_a_jump_that_ended_nothing_succeeds_and_keeps_the_lock() {
    const JUMP: &str = "UPDATE syncguard_locks SET acquired_at_ms = acquired_at_ms - 20000, \
                        expires_at_ms = expires_at_ms - 20000";
    let scratch = Scratch::new();
    let backend = scratch.open().await;
    let locks = LockManager::new(backend.clone());
    let guard = locks.lock("key").renew(Renew::Never).acquire().await.unwrap();
    jump_ahead(&scratch, JUMP).await;
    guard.extend(ttl(30_000)).await.unwrap();
    let outcome = scratch.open().await.acquire(&request("key")).await.unwrap();
    assert!(matches!(outcome, AcquireOutcome::Contended { .. }), "two holders");
    assert!(guard.is_valid());
}
