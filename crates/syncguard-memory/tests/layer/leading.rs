//! The election of a leader: who leads, how a term ends, and what follows it.

use std::{
    future::{Future, pending, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use syncguard_core::{
    Error, ErrorKind, Fence, LockManager, Operation, Retry, Term,
    backend::LockBackend,
    contract::{Fault, Faulty},
};
use tokio::{
    sync::oneshot,
    task::{JoinSet, yield_now},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    LONG, World, drained, error_of, key,
    time::{TICK, assert_all_at, assert_at, millis, secs},
};

/// How long a candidate pauses after a term, at least and at most: the longest delay of the default
/// schedule, and its first delay, half of which is random.
const PAUSE: (Duration, Duration) = (millis(2_050), millis(2_100));

/// More requests than any test sends.
const ALL: usize = 1_000;

/// Asserts that something happened a pause after something else.
#[track_caller]
fn assert_a_pause_after(happened: Duration, end: Duration) {
    let (min, max) = (end + PAUSE.0, end + PAUSE.1 + TICK);
    assert!(min <= happened && happened <= max, "at {happened:?}, a pause after {end:?}");
}

/// Records who leads, from the points of view of the leaders.
#[derive(Default)]
struct Terms {
    leading: AtomicBool,
    fences: Mutex<Vec<Fence>>,
}

/// Leads until it is dropped.
struct Leading<'a>(&'a Terms);

impl Terms {
    #[track_caller]
    fn begin(&self, term: &Term) -> Leading<'_> {
        assert!(!self.leading.swap(true, Ordering::SeqCst), "two leaders");
        self.fences.lock().unwrap().push(term.fence().unwrap());
        Leading(self)
    }

    /// Asserts that there were this many terms, and that each has a higher fence than the last.
    #[track_caller]
    fn assert_increasing(&self, terms: usize) {
        let fences = self.fences.lock().unwrap();
        assert!(fences.is_sorted_by(|one, next| one < next), "{fences:?}");
        assert_eq!(fences.len(), terms);
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        self.0.leading.store(false, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn of_many_candidates_one_leads_at_a_time_and_the_fences_of_terms_increase() {
    let (world, terms) = (World::new(), Arc::new(Terms::default()));
    let mut candidates = JoinSet::new();
    for locks in [world.locks(), world.locks(), world.locks()] {
        for _ in 0..3_u32 {
            let (locks, terms) = (locks.clone(), terms.clone());
            candidates.spawn(async move {
                let left = AtomicUsize::new(3);
                locks
                    .leader("k")
                    .run(async |term| {
                        let _leading = terms.begin(&term);
                        sleep(secs(17)).await;
                        if left.fetch_sub(1, Ordering::SeqCst) > 1 {
                            term.resign();
                            pending::<()>().await;
                        }
                    })
                    .await
                    .unwrap();
            });
        }
    }
    candidates.join_all().await;
    terms.assert_increasing(3 * 3 * 3);
    assert!(!world.is_locked("k").await);
}

#[tokio::test(start_paused = true)]
async fn the_value_of_the_work_is_returned_and_the_key_is_free() {
    let world = World::new();
    let value = world.locks().leader("k").run(async |term| {
        assert!(world.is_locked("k").await);
        sleep(secs(100)).await;
        term.fence().unwrap().number()
    });
    assert_eq!(value.await.unwrap(), 1);
    assert!(!world.is_locked("k").await);
}

#[tokio::test(start_paused = true)]
async fn a_campaign_waits_as_long_as_another_holder_leads() {
    let world = World::new();
    let other = world.hold_elsewhere("k", LONG).await;
    let locks = world.locks();
    let leader = tokio::spawn(async move {
        // A limit of the retries does not limit the campaign.
        locks.leader("k").retry(Retry::default().limit(1)).run(async |_| ()).await
    });
    sleep(secs(24 * 60 * 60)).await;
    assert!(!leader.is_finished());
    world.release_elsewhere(&other).await;
    leader.await.unwrap().unwrap();
    assert_at(world.clock.elapsed(), secs(24 * 60 * 60));
}

/// Loses its first term, and ends the second one.
struct Losing {
    world: World,
    /// When the work of the first term was dropped.
    dropped: Mutex<Option<Duration>>,
    terms: Terms,
}

/// Records when the work is dropped.
struct Work<'a>(&'a Losing);

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.0.dropped.lock().unwrap().get_or_insert(self.0.world.clock.elapsed());
    }
}

/// What ends a term.
enum End {
    /// A release by an operator.
    Forced,
    /// Renewals that do not reach the store.
    RenewalsLost,
    /// A resignation by the work.
    Resigned,
    /// A resignation by another task, after 8 s.
    ResignedElsewhere,
}

impl End {
    async fn prepare(&self, world: &World, term: &Term) {
        match self {
            Self::Forced => {
                world.others.force_release(&key("k")).await.unwrap().unwrap();
            }
            Self::RenewalsLost => world.plan(Operation::Extend, &Fault::RequestLost, ALL),
            Self::Resigned => term.resign(),
            Self::ResignedElsewhere => {
                let term = term.clone();
                tokio::spawn(async move {
                    sleep(secs(8)).await;
                    term.resign();
                });
            }
        }
    }
}

impl Losing {
    /// Leads two terms, the first until this ends it. Returns when the first work was dropped, and
    /// when the second began.
    async fn lead(world: World, end: End) -> (Duration, Duration) {
        let losing = Self { world, dropped: Mutex::default(), terms: Terms::default() };
        let locks = losing.world.locks();
        let first = AtomicBool::new(true);
        let leader = locks.leader("k").ttl(secs(30)).run(async |term| {
            let (_leading, _work) = (losing.terms.begin(&term), Work(&losing));
            if first.swap(false, Ordering::SeqCst) {
                end.prepare(&losing.world, &term).await;
                pending::<()>().await;
            }
            losing.world.clock.elapsed()
        });
        let began = leader.await.unwrap();
        losing.terms.assert_increasing(2);
        let dropped = losing.dropped.lock().unwrap().unwrap();
        (dropped, began)
    }
}

#[tokio::test(start_paused = true)]
async fn the_work_is_dropped_when_the_store_reports_the_loss_and_a_campaign_follows() {
    let (dropped, began) = Losing::lead(World::new(), End::Forced).await;
    assert!(dropped <= secs(10) + TICK, "at the first renewal");
    assert_a_pause_after(began, dropped);
}

#[tokio::test(start_paused = true)]
async fn the_work_is_dropped_before_the_expiry_if_renewals_fail_and_a_campaign_follows() {
    let (dropped, began) = Losing::lead(World::new(), End::RenewalsLost).await;
    assert_at(dropped, millis(28_500)); // a margin before the expiry
    assert_a_pause_after(began, dropped);
}

#[tokio::test(start_paused = true)]
async fn the_work_is_dropped_when_the_term_is_resigned_and_a_campaign_follows() {
    let (dropped, began) = Losing::lead(World::new(), End::ResignedElsewhere).await;
    assert_at(dropped, secs(8));
    assert_a_pause_after(began, dropped);
}

#[tokio::test(start_paused = true)]
async fn the_work_of_a_resigned_term_is_dropped_before_its_lock_is_released() {
    let world = World::new();
    world.store.delay(Operation::Release, secs(3));
    let (dropped, began) = Losing::lead(world, End::Resigned).await;
    assert_at(dropped, secs(0));
    assert_a_pause_after(began, secs(3));
}

#[tokio::test(start_paused = true)]
async fn work_that_resigns_and_returns_without_another_await_has_completed() {
    let world = World::new();
    let value = world.locks().leader("k").run(async |term| {
        term.resign();
        7
    });
    assert_eq!(value.await.unwrap(), 7);
    assert_eq!(world.sent(Operation::Acquire).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn work_is_not_polled_again_after_another_task_resigned() {
    let (world, terms) = (World::new(), AtomicUsize::new(0));
    let leader = world.locks().leader("k").run(async |term| {
        let number = terms.fetch_add(1, Ordering::SeqCst) + 1;
        let (ready, wait) = oneshot::channel();
        tokio::spawn(async move {
            if number == 1 {
                term.resign();
            }
            ready.send(()).unwrap();
        });
        wait.await.unwrap();
        number
    });
    assert_eq!(leader.await.unwrap(), 2);
}

/// Without notifications, the other candidate finds the key free by its own schedule.
#[tokio::test(start_paused = true)]
async fn a_leader_that_resigns_is_followed_by_the_other_candidate_even_without_wake_ups() {
    const TERMS: usize = 40;
    let (world, leaders) = (World::new(), Arc::new(Mutex::new(Vec::new())));
    let mut candidates = JoinSet::new();
    for name in ["one", "other"] {
        let locks = LockManager::builder(world.store.clone().without_wake_ups())
            .clock(world.clock.shared());
        let (locks, leaders) = (locks.build(), leaders.clone());
        candidates.spawn(async move {
            let led = locks.leader("k").run(async |term| {
                leaders.lock().unwrap().push(name);
                sleep(millis(12_345)).await;
                if leaders.lock().unwrap().len() < TERMS {
                    term.resign();
                    pending::<()>().await;
                }
            });
            led.await.unwrap();
        });
    }
    candidates.join_next().await;
    let leaders = leaders.lock().unwrap();
    assert!(leaders.windows(2).all(|pair| pair[0] != pair[1]), "{leaders:?}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_crashes_is_followed_when_its_ttl_and_the_grace_are_over() {
    let world = World::new();
    // The releases of this process never reach the store.
    let cut_off = Faulty::new(world.others.clone());
    (0..ALL).for_each(|_| cut_off.plan(Operation::Release, Fault::RequestLost));
    let crashing = LockManager::builder(cut_off.clone()).clock(world.clock.shared()).build();
    let leader = tokio::spawn(async move {
        crashing.leader("k").ttl(secs(30)).run(async |_| pending::<()>().await).await
    });
    yield_now().await;
    let locks = world.locks();
    let candidate = tokio::spawn(async move { locks.leader("k").run(async |_| ()).await });
    sleep(secs(45)).await;
    leader.abort();
    candidate.await.unwrap().unwrap();
    // The last renewal was made in the last 10 s.
    let (min, max) = (secs(35 + 30 + 1) + millis(2), secs(45 + 30 + 1) + millis(10) + TICK);
    let led = world.clock.elapsed();
    assert!(min <= led && led <= max, "{led:?}");
    assert!(cut_off.planned() < ALL, "a release was lost");
}

#[tokio::test(start_paused = true)]
async fn transient_errors_are_retried_and_others_are_returned() {
    let world = World::new();
    world.plan(Operation::Acquire, &Fault::NotSent, 20);
    world.locks().leader("k").run(async |_| ()).await.unwrap();
    world.assert_planned(0);

    world.plan(Operation::Acquire, &Fault::Refused, 1);
    error_of(world.locks().leader("k").run(async |_| ()).await, ErrorKind::AuthFailed);
    world.assert_planned(0);
}

#[tokio::test(start_paused = true)]
async fn an_invalid_value_is_reported_before_any_request_is_sent() {
    let locks = World::locks;
    let world = World::new();
    let invalid: [(&str, _); 3] = [
        ("key", locks(&world).leader("")),
        ("ttl", locks(&world).leader("k").ttl("soon")),
        ("owner", locks(&world).leader("k").owner("x".repeat(10_000))),
    ];
    for (value, leader) in invalid {
        let run: Result<(), _> =
            leader.run(async |_| panic!("leads with an invalid {value}")).await;
        error_of(run, ErrorKind::InvalidArgument);
    }
    assert!(world.sent(Operation::Acquire).is_empty());
}

/// Runs a candidate that campaigns for 10 s, leads for 10 s, and resigns. It is cancelled at this
/// time.
async fn assert_cancelled_at(at: Duration) {
    let (world, token) = (World::new(), CancellationToken::new());
    let locks = world.locks();
    world.hold_elsewhere("k", secs(9)).await;
    let leader = locks.leader("k").cancel_on(token.clone()).run(async |term| {
        sleep(secs(10)).await;
        term.resign();
        pending::<()>().await;
    });
    let cancel = async {
        sleep(at).await;
        token.cancel();
    };
    let (result, ()) = tokio::join!(leader, cancel);
    error_of(result, ErrorKind::Aborted);
    assert_at(world.clock.elapsed(), at);
    drained(&locks).await;
    let holder = world.others.lookup(&key("k").into()).await.unwrap();
    assert!(holder.is_none_or(|holder| holder.owner.is_none()), "the lock is released");
    let sent = world.sent(Operation::Acquire).len();
    sleep(secs(60)).await;
    assert_eq!(world.sent(Operation::Acquire).len(), sent, "no attempt follows");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_candidate_ends_its_campaign() {
    assert_cancelled_at(secs(5)).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_candidate_ends_its_term() {
    assert_cancelled_at(secs(15)).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_candidate_ends_its_pause() {
    assert_cancelled_at(secs(21)).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_scope_ends_the_term() {
    let (world, token) = (World::new(), CancellationToken::new());
    let locks = world.locks();
    let leader = locks.child(token.clone()).leader("k").run(async |_| {
        token.cancel();
        pending::<()>().await;
    });
    error_of(leader.await, ErrorKind::Aborted);
    drained(&locks).await;
    assert!(!world.is_locked("k").await);
}

/// Polls a future this many times, then drops it. Returns whether it completed before that.
async fn polled<F: Future>(future: F, polls: usize) -> bool {
    let (mut future, mut left) = (pin!(future), polls);
    poll_fn(|context| {
        let Some(rest) = left.checked_sub(1) else { return Poll::Ready(false) };
        left = rest;
        if future.as_mut().poll(context).is_ready() {
            return Poll::Ready(true);
        }
        if left == 0 {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_is_dropped_at_any_await_leaves_nothing() {
    let mut drops = 0;
    loop {
        let world = World::new();
        for operation in [Operation::Acquire, Operation::Extend, Operation::Release] {
            world.store.delay(operation, millis(700));
        }
        let other = world.hold_elsewhere("k", secs(3)).await;
        world.plan(Operation::Acquire, &Fault::ReplyLost, 1);
        let locks = world.locks();
        let leading = AtomicUsize::new(0);
        let terms = AtomicUsize::new(0);
        let completed = {
            let leader = locks.leader("k").ttl(secs(3)).run(async |term| {
                let _leading = Counted::new(&leading);
                sleep(millis(1_700)).await;
                match terms.fetch_add(1, Ordering::SeqCst) + 1 {
                    1 => term.resign(),
                    2 => drop(world.others.force_release(&key("k")).await.unwrap().unwrap()),
                    _ => return,
                }
                pending::<()>().await;
            });
            polled(leader, drops).await
        };
        assert_eq!(leading.load(Ordering::SeqCst), 0, "after {drops} polls");
        drained(&locks).await;
        let holder = world.others.lookup(&key("k").into()).await.unwrap();
        let id = holder.map(|record| record.lock_id);
        assert!(id.is_none_or(|id| id == other.lock_id), "after {drops} polls");
        assert_eq!(world.store.subscriptions(), 0, "after {drops} polls");
        if completed {
            break;
        }
        drops += 1;
    }
    assert!(drops > 15, "there were {drops} awaits");
}

/// Counts what exists.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Runs a candidate for a minute, and returns when it sent acquires.
async fn acquires_of(
    world: &World,
    leader: impl Future<Output = Result<(), Error>>,
) -> Vec<Duration> {
    timeout(secs(60), leader).await.unwrap_err();
    drained(&world.locks()).await;
    let sent = world.sent(Operation::Acquire);
    for gap in sent.windows(2).map(|pair| pair[1] - pair[0]) {
        assert!(gap >= PAUSE.0, "{gap:?}");
    }
    sent
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_resigns_each_term_immediately_does_not_spin() {
    let world = World::new();
    let leader = world.locks().leader("k").run(async |term| {
        term.resign();
        pending::<()>().await;
    });
    let sent = acquires_of(&world, leader).await;
    assert_eq!(world.sent(Operation::Release).len(), sent.len());
    assert!((28..=30).contains(&sent.len()), "{sent:?}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_loses_each_term_immediately_does_not_spin() {
    let world = World::new();
    let leader = world.locks().leader("k").run(async |term| {
        world.others.force_release(&key("k")).await.unwrap().unwrap();
        error_of(term.lease().extend(secs(30)).await, ErrorKind::Lost);
        pending::<()>().await;
    });
    let sent = acquires_of(&world, leader).await;
    assert!((28..=30).contains(&sent.len()), "{sent:?}");
}

#[tokio::test(start_paused = true)]
async fn the_pause_follows_the_configured_schedule() {
    let world = World::new();
    let terms = AtomicUsize::new(0);
    let leader = world.locks().leader("k").retry(Retry::fixed(secs(10)));
    let led = leader.run(async |term| {
        if terms.fetch_add(1, Ordering::SeqCst) < 2 {
            term.resign();
            pending::<()>().await;
        }
    });
    led.await.unwrap();
    // The longest delay and one more.
    assert_all_at(&world.sent(Operation::Acquire), &[0, 20, 40].map(secs));
}
