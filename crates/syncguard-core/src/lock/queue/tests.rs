use std::{
    future::Future,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Wake, Waker},
    thread,
    time::Duration,
};

use tokio::time::Instant;

use super::{Holds, Queues, RETENTION, Turn, Waiter};
use crate::{Fence, LockKey, backend::Mode};

const ATTEMPTS: u32 = 50_000;

/// Two waiters that leave at the same instant. It takes real threads: between checking for
/// another waiter and leaving, each must see the other.
#[test]
fn a_queue_ends_with_the_last_of_two_that_leave_at_the_same_instant() {
    let (queues, key) = (Queues::default(), LockKey::new("k").unwrap());
    let together = Barrier::new(2);
    let mut remaining = 0;
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            for _ in 0..ATTEMPTS {
                let waiter = queues.join(&key, Mode::Exclusive, 0);
                together.wait();
                drop(waiter);
                together.wait();
                together.wait();
            }
        });
        for _ in 0..ATTEMPTS {
            let waiter = queues.join(&key, Mode::Exclusive, 0);
            together.wait();
            drop(waiter);
            together.wait();
            remaining += queues.len();
            together.wait();
        }
        other.join().unwrap();
    });
    assert_eq!(remaining, 0);
}

#[test]
fn a_runtime_that_is_shut_down_drops_its_watcher_and_can_be_watched_again() {
    let (queues, key) = (Queues::default(), LockKey::new("k").unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (waiter, id) = (queues.join(&key, Mode::Exclusive, 0), runtime.handle().id());
    waiter.watch(runtime.handle());
    assert!(!waiter.queue.waiters().watchers.add(id));
    drop(runtime);
    assert!(waiter.queue.waiters().watchers.add(id));
}

/// Records that another process holds the key of a waiter.
fn see_another_process(waiter: &Waiter) {
    waiter.fairness(|fairness| fairness.contended(Fence::new(7).ok(), Instant::now()));
}

#[test]
fn a_process_shares_a_key_while_more_of_its_tasks_wait_or_once_it_has_seen_another_process() {
    let (queues, key) = (Queues::default(), LockKey::new("k").unwrap());
    let (head, next) =
        (queues.join(&key, Mode::Exclusive, 0), queues.join(&key, Mode::Exclusive, 0));
    let poll = |waiter: &Waiter| {
        let polled = waiter.queue.waiters().poll_turn(waiter.candidate, false, Waker::noop());
        polled.0 == Turn::Head
    };
    assert!(poll(&head) && !head.is_sharing());
    assert!(!poll(&next) && head.is_sharing());
    drop(next);
    assert!(!head.is_sharing());
    see_another_process(&head);
    assert!(head.is_sharing());
}

/// Returns whether this process defers to others after two short waits, a second apart, of which the
/// second was granted the key. If `other` is set, another task waited from the first to the second.
async fn defers_after_two_short_waits(other: bool) -> bool {
    let (queues, key) = (Queues::default(), LockKey::new("k").unwrap());
    let wait = || {
        let waiter = queues.join(&key, Mode::Exclusive, 0);
        let polled = waiter.queue.waiters().poll_turn(waiter.candidate, false, Waker::noop());
        polled.1.wake();
        waiter
    };
    let (first, other) = (wait(), other.then(wait));
    see_another_process(&first);
    drop(first);
    tokio::time::advance(Duration::from_secs(1)).await;
    let last = wait();
    see_another_process(&last);
    drop(other);
    let (now, short) = (Instant::now(), Duration::from_millis(1));
    last.fairness(|fairness| {
        fairness.granted(Fence::new(8).unwrap(), now, short);
        fairness.released();
        fairness.deferral(now, short).is_some()
    })
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_was_given_up_does_not_count_as_part_of_the_next_one() {
    assert!(defers_after_two_short_waits(true).await, "another task waited for a second");
    assert!(!defers_after_two_short_waits(false).await);
}

#[tokio::test(start_paused = true)]
async fn the_queue_of_a_key_that_others_contend_for_is_retained_and_then_removed() {
    let queues = Queues::default();
    let [key, other] = ["k", "other"].map(|text| LockKey::new(text).unwrap());
    let join_and_leave = || drop(queues.join(&other, Mode::Exclusive, 0));
    let waiter = queues.join(&key, Mode::Exclusive, 0);
    see_another_process(&waiter);
    drop(waiter);
    tokio::time::advance(RETENTION - Duration::from_millis(1)).await;
    join_and_leave();
    assert_eq!(queues.len(), 1, "its retention is not over");
    assert!(queues.join(&key, Mode::Exclusive, 0).fairness(|fairness| fairness.is_contested()));
    tokio::time::advance(RETENTION).await;
    let waiter = queues.join(&key, Mode::Exclusive, 0);
    join_and_leave();
    assert_eq!(queues.len(), 1, "it has a waiter");
    drop(waiter);
    tokio::time::advance(RETENTION).await;
    join_and_leave();
    assert_eq!(queues.len(), 0);
}

/// Calls back into the queue when it is woken, as the waker of an executor that runs a task
/// immediately may do.
struct Reentrant(Queues, LockKey, AtomicUsize);

impl Wake for Reentrant {
    fn wake(self: Arc<Self>) {
        if self.2.fetch_add(1, Ordering::SeqCst) == 0 {
            drop(self.0.join(&self.1, Mode::Exclusive, 0));
            self.0.notify_released(&self.1);
        }
    }
}

#[test]
fn wakers_are_called_while_nothing_is_locked() {
    let (done, ended) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (queues, key) = (Queues::default(), LockKey::new("k").unwrap());
        let woken = Arc::new(Reentrant(queues.clone(), key.clone(), AtomicUsize::new(0)));
        let waker = Waker::from(woken.clone());
        let wait = || {
            let (waiter, home) = (queues.join(&key, Mode::Exclusive, 0), runtime.handle());
            Box::pin(async move {
                waiter.drive(home, std::pin::pin!(std::future::pending::<()>())).await
            })
        };
        let mut context = Context::from_waker(&waker);
        let (mut head, mut next) = (wait(), wait());
        assert!(head.as_mut().poll(&mut context).is_pending());
        queues.notify_released(&key);
        let of_a_release = woken.2.swap(0, Ordering::SeqCst);
        assert!(next.as_mut().poll(&mut context).is_pending());
        drop(head);
        done.send((of_a_release, woken.2.load(Ordering::SeqCst))).unwrap();
    });
    let (of_a_release, of_a_leave) = ended.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(of_a_release > 0 && of_a_leave > 0, "{of_a_release} and {of_a_leave}");
}

#[test]
fn an_entry_is_kept_for_its_holders_and_counts_them_by_mode() {
    let (queues, key) = (Queues::default(), LockKey::new("k").unwrap());
    let waiter = queues.join(&key, Mode::SHARED, 0);
    queues.began(&key, Mode::SHARED);
    queues.began(&key, Mode::SHARED);
    queues.began(&key, Mode::Exclusive);
    drop(waiter);
    let stats = queues.stats();
    assert_eq!((stats.keys[0].holders, stats.keys[0].readers, stats.keys[0].waiters), (3, 2, 0));
    queues.ended(&key, Mode::SHARED);
    queues.released(&key, Mode::SHARED);
    assert_eq!(queues.len(), 1);
    queues.released(&key, Mode::Exclusive);
    assert_eq!(queues.len(), 0);
}

#[test]
fn only_the_last_of_the_readers_of_a_process_notifies_its_waiters() {
    let (queues, key) = (Queues::default(), LockKey::new("k").unwrap());
    let permit = Mode::Shared { permits: std::num::NonZeroU32::new(3) };
    for (mode, notified) in [(Mode::SHARED, false), (permit, true)] {
        let waiter = queues.join(&key, Mode::Exclusive, 0);
        queues.began(&key, mode);
        queues.began(&key, mode);
        waiter.clear_attempt_due();
        queues.released(&key, mode);
        assert_eq!(waiter.queue.waiters().attempt_due.is_some(), notified, "{mode}: one of two");
        queues.released(&key, mode);
        assert!(waiter.queue.waiters().attempt_due.is_some(), "{mode}: the last");
    }
}
