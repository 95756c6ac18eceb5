//! The queue that decides which waiter asks the store next.

use std::{
    collections::{HashMap, VecDeque},
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use tokio::{
    runtime::{Handle, Id},
    time::Instant,
};

use super::{
    attempt::Attempted,
    fairness::Possession,
    line::{Attempt, Line, Released},
    shared::Shared,
};
use crate::{Error, LockBackend, LockKey};

/// How long a woken head may stay unpolled before the turn passes to the next waiter.
///
/// A future that is polled by a task is polled within microseconds. A future that needs longer is
/// no longer polled, or runs on a runtime that is blocked or that no thread drives.
const MAX_UNPOLLED: Duration = Duration::from_millis(250);

/// How long an empty queue is kept after another process wanted its key. A single task that
/// acquires and releases the key in a loop shuts others out as much as many tasks do.
const RETENTION: Duration = Duration::from_secs(2);

/// The waiters of one process, with one queue for each key.
///
/// **Invariant:** however many tasks wait for a key, one of them, the head, contends at the store.
/// The others wait in memory, first come, first served.
///
/// **Invariant:** an entry lives as long as its queue has a place, and for [`RETENTION`] longer if
/// other processes want the key too. Places are counted under the lock of the map, so if two leave
/// at the same instant, the second sees that the first is gone. (A reference count would not
/// suffice: each could still see the other's reference.)
///
/// No waker is called, and nothing of the backend is dropped, while a lock of this module is held:
/// both run foreign code, which may call back into this module.
#[derive(Clone, Default)]
pub(crate) struct Queues(Arc<Mutex<Map>>);

#[derive(Default)]
struct Map {
    entries: HashMap<LockKey, Entry>,
    /// The keys of entries that may exist without a place, each once, the oldest first.
    kept: VecDeque<LockKey>,
}

#[derive(Default)]
struct Entry {
    places: usize,
    queue: Arc<Queue>,
    /// Until when the entry stays without a place; `None` if it is removed with the last one.
    kept_until: Option<Instant>,
}

impl Queues {
    /// Joins the queue for `key`.
    pub(crate) fn join(&self, key: &LockKey) -> Place {
        let mut queues = self.lock();
        let entry = queues.entries.entry(key.clone()).or_default();
        entry.places += 1;
        let queue = entry.queue.clone();
        drop(queues);
        let ticket = queue.line().ticket();
        Place { queues: self.clone(), key: key.clone(), queue, ticket }
    }

    /// Notifies the head of the queue for `key`, if there is one, that the key may be free.
    pub(crate) fn freed(&self, key: &LockKey) {
        let queue = self.lock().entries.get(key).map(|entry| entry.queue.clone());
        if let Some(queue) = queue {
            let wakers = queue.line().freed();
            wakers.wake();
        }
    }

    /// Removes a place. The last place removes its queue, unless the queue is to be kept.
    fn leave(&self, key: &LockKey, keep: bool) {
        let mut queues = self.lock();
        let gone = (queues.leave(key, keep.then(Instant::now)), queues.outdated());
        drop(queues);
        drop(gone);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    fn lock(&self) -> MutexGuard<'_, Map> {
        // Nothing panics while the map is locked, so it is whole even if poisoned.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Map {
    fn leave(&mut self, key: &LockKey, kept_from: Option<Instant>) -> Option<Entry> {
        let entry = self.entries.get_mut(key)?;
        entry.places -= 1;
        if let Some(now) = kept_from {
            if entry.kept_until.replace(now + RETENTION).is_none() {
                self.kept.push_back(key.clone());
            }
            return None;
        }
        // An entry that was kept before is removed when its time is over.
        if entry.places > 0 || entry.kept_until.is_some() {
            return None;
        }
        self.entries.remove(key)
    }

    /// Removes one entry whose retention is over. Each call checks one entry, so that every call is
    /// short. There are never many more such entries than were added within the retention.
    fn outdated(&mut self) -> Option<Entry> {
        let key = self.kept.pop_front()?;
        let entry = self.entries.get_mut(&key)?;
        if entry.kept_until.is_some_and(|until| Instant::now() < until) {
            self.kept.push_back(key);
            return None;
        }
        entry.kept_until = None;
        if entry.places > 0 {
            return None;
        }
        self.entries.remove(&key)
    }
}

/// The queue for one key. It is also the waker of its head: a wake-up of the contending future
/// reaches the current head, and the watchers see it.
#[derive(Default)]
struct Queue(Mutex<Line>);

impl Queue {
    fn line(&self) -> MutexGuard<'_, Line> {
        // Nothing panics while the line is locked, so it is whole even if poisoned.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the turn from a head that was woken and has not been polled since `polls`.
    fn pass_over(&self, polls: u64) {
        let passed = self.line().pass_over(polls);
        if let Some((attempt, wakers)) = passed {
            // An attempt in flight continues in the background, which releases a grant.
            drop(attempt);
            wakers.wake();
        }
    }
}

impl Wake for Queue {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let wakers = self.line().head_woken();
        wakers.wake();
    }
}

/// A place in a queue. Dropping it leaves the queue.
pub(crate) struct Place {
    queues: Queues,
    key: LockKey,
    queue: Arc<Queue>,
    ticket: u64,
}

impl Place {
    /// Polls `contend` whenever this place has the turn.
    ///
    /// **Invariant:** a head that is not polled does not keep the key from those behind it. Its
    /// wake-ups go through the queue. If a wake-up is not followed by a poll within
    /// [`MAX_UNPOLLED`], the head loses the turn, and its attempt in flight, if any, continues in
    /// the background. It keeps its ticket: when polled again, it goes before those who came later.
    /// A task on the runtime of each waiter keeps the time, because an unpolled future or an
    /// undriven runtime cannot be relied upon to do so.
    pub(crate) async fn drive<F: Future>(&self, home: &Handle, contend: F) -> F::Output {
        let (waker, mut contend) = (Waker::from(self.queue.clone()), pin!(contend));
        poll_fn(|context| {
            let turn = self.queue.line().poll_turn(self.ticket, context.waker());
            match turn {
                Ok(()) => contend.as_mut().poll(&mut Context::from_waker(&waker)),
                Err(wakers) => {
                    wakers.wake();
                    self.watch(home);
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Starts the watcher of the queue on a runtime that has none yet.
    fn watch(&self, runtime: &Handle) {
        if self.queue.line().is_unwatched(runtime.id()) {
            let (queue, runtime_id) = (self.queue.clone(), runtime.id());
            runtime.spawn(watch(Watcher { queue, runtime: runtime_id, listed: true }));
        }
    }

    /// Makes an attempt; returns `None` if the turn, and the attempt with it, was lost meanwhile.
    pub(crate) async fn attempt(&self, attempt: Attempt) -> Option<Result<Attempted, Error>> {
        let mut first = Some(attempt);
        poll_fn(|context| {
            let mut attempt = match first.take() {
                Some(first) => first,
                None => match self.take(|line| &mut line.attempt) {
                    Some(Some(attempt)) => attempt,
                    Some(None) => return Poll::Ready(None),
                    None => return Poll::Pending,
                },
            };
            let polled = Pin::new(&mut attempt).poll(context);
            if polled.is_pending() {
                self.keep(|line| &mut line.attempt, attempt);
            }
            polled.map(Some)
        })
        .await
    }

    /// Takes the head's state out of the queue for a poll; returns `None` for any other place. A
    /// poll may take so long that the turn is lost during it.
    fn take<T>(&self, slot: impl FnOnce(&mut Line) -> &mut Option<T>) -> Option<Option<T>> {
        let mut line = self.queue.line();
        line.is_head(self.ticket).then(|| slot(&mut line).take())
    }

    /// Puts the head's state back into the queue between two polls, where the task that takes the
    /// turn away finds it. If the turn was lost during this poll, the state is dropped.
    fn keep<T>(&self, slot: impl FnOnce(&mut Line) -> &mut Option<T>, value: T) {
        let mut line = self.queue.line();
        let rest = match line.is_head(self.ticket) {
            true => slot(&mut line).replace(value),
            false => Some(value),
        };
        drop(line);
        drop(rest);
    }

    /// Discards earlier releases by this process.
    pub(crate) fn forget_releases(&self) {
        self.queue.line().freed = false;
    }

    /// Completes when a lock of this process was released since [`forget_releases`].
    ///
    /// [`forget_releases`]: Self::forget_releases
    pub(crate) async fn freed(&self) {
        // Each release polls the head again.
        let freed = |_: &mut Context<'_>| match self.queue.line().freed {
            true => Poll::Ready(()),
            false => Poll::Pending,
        };
        poll_fn(freed).await;
    }

    /// Returns whether the queue was subscribed to other processes' releases before its head asked.
    pub(crate) fn is_subscribed(&self) -> bool {
        self.queue.line().released.is_some()
    }

    /// Subscribes to releases by other processes; a later release is not missed.
    pub(crate) async fn subscribe(&self, shared: &Shared, home: &Handle) {
        let (backend, key) = (shared.backend.clone(), self.key.clone());
        let mut released: Released = Box::pin(async move { backend.released(&key).await });
        let first = poll_fn(|context| {
            Poll::Ready(shared.runtimes.poll_in_context(Some(home), released.as_mut(), context))
        });
        // A notification at the first poll counts like any other: if many contend for a key, one
        // release may follow another that closely.
        if first.await.is_ready() {
            released = Box::pin(std::future::ready(()));
        }
        self.keep(|line| &mut line.released, released);
        let spent = self.queue.line().spent.take();
        drop(spent);
    }

    /// Waits for a release by another process, for ever if there is no subscription.
    pub(crate) async fn released(&self, shared: &Shared, home: &Handle) {
        poll_fn(|context| {
            let Some(Some(mut released)) = self.take(|line| &mut line.released) else {
                return Poll::Pending;
            };
            let polled = shared.runtimes.poll_in_context(Some(home), released.as_mut(), context);
            match polled {
                Poll::Pending => self.keep(|line| &mut line.released, released),
                Poll::Ready(()) => self.keep(|line| &mut line.spent, released),
            }
            polled
        })
        .await;
    }

    /// Accesses the record of how this process shares the key with others.
    pub(crate) fn possession<T>(&self, look: impl FnOnce(&mut Possession) -> T) -> T {
        look(&mut self.queue.line().possession)
    }

    /// Returns whether this process may have to let others in, because more of its tasks wait or it
    /// has met another process.
    pub(crate) fn is_sharing(&self) -> bool {
        let line = self.queue.line();
        line.is_followed() || line.possession.is_contested()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut line = self.queue.line();
        let (left, wakers) = line.leave(self.ticket);
        let keep = line.possession.is_contested();
        drop(line);
        drop(left);
        wakers.wake();
        self.queues.leave(&self.key, keep);
    }
}

/// Watches a queue on behalf of all waiters on one runtime.
struct Watcher {
    queue: Arc<Queue>,
    runtime: Id,
    /// Whether this watcher is listed in the queue.
    listed: bool,
}

async fn watch(mut watcher: Watcher) {
    let (queue, runtime) = (watcher.queue.clone(), watcher.runtime);
    let woken = || poll_fn(|context| queue.line().poll_woken(runtime, context.waker()));
    while let Some(polls) = woken().await {
        tokio::time::sleep(MAX_UNPOLLED).await;
        queue.pass_over(polls);
    }
    watcher.listed = false;
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Dropped with its runtime: the next waiter on a live one starts another.
        if self.listed {
            let waker = self.queue.line().unwatch(self.runtime);
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
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

    use super::{Place, Queues, RETENTION};
    use crate::{Fence, LockKey};

    const ROUNDS: u32 = 50_000;

    /// Two places that leave at the same instant. It takes real threads: between checking for
    /// another place and leaving, each must see the other.
    #[test]
    fn a_queue_ends_with_the_last_of_two_that_leave_at_the_same_instant() {
        let (queues, key) = (Queues::default(), LockKey::new("k").unwrap());
        let together = Barrier::new(2);
        let mut left_behind = 0;
        thread::scope(|scope| {
            let other = scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let place = queues.join(&key);
                    together.wait();
                    drop(place);
                    together.wait();
                    together.wait();
                }
            });
            for _ in 0..ROUNDS {
                let place = queues.join(&key);
                together.wait();
                drop(place);
                together.wait();
                left_behind += queues.len();
                together.wait();
            }
            other.join().unwrap();
        });
        assert_eq!(left_behind, 0);
    }

    #[test]
    fn a_runtime_takes_its_watcher_along_and_may_be_watched_again() {
        let (queues, key) = (Queues::default(), LockKey::new("k").unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (place, id) = (queues.join(&key), runtime.handle().id());
        place.watch(runtime.handle());
        assert!(!place.queue.line().is_unwatched(id));
        drop(runtime);
        assert!(place.queue.line().is_unwatched(id));
    }

    /// Records that another process holds the key of a place.
    fn meet_another(place: &Place) {
        place.possession(|possession| possession.refused(Some(Fence::new(7).unwrap())));
    }

    #[test]
    fn a_process_shares_a_key_while_more_of_its_tasks_wait_or_once_it_has_met_another_process() {
        let (queues, key) = (Queues::default(), LockKey::new("k").unwrap());
        let (head, next) = (queues.join(&key), queues.join(&key));
        let poll =
            |place: &Place| place.queue.line().poll_turn(place.ticket, Waker::noop()).is_ok();
        assert!(poll(&head) && !head.is_sharing());
        assert!(!poll(&next) && head.is_sharing());
        drop(next);
        assert!(!head.is_sharing());
        meet_another(&head);
        assert!(head.is_sharing());
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_of_a_key_that_others_want_is_kept_for_its_time_and_then_forgotten() {
        let queues = Queues::default();
        let [key, other] = ["k", "other"].map(|text| LockKey::new(text).unwrap());
        let come_and_go = || drop(queues.join(&other));
        let place = queues.join(&key);
        meet_another(&place);
        drop(place);
        tokio::time::advance(RETENTION - Duration::from_millis(1)).await;
        come_and_go();
        assert_eq!(queues.len(), 1, "its time is not over");
        assert!(queues.join(&key).possession(|possession| possession.is_contested()));
        tokio::time::advance(RETENTION).await;
        let place = queues.join(&key);
        come_and_go();
        assert_eq!(queues.len(), 1, "it has a place");
        drop(place);
        tokio::time::advance(RETENTION).await;
        come_and_go();
        assert_eq!(queues.len(), 0);
    }

    /// Calls back into the queue when it is woken, as the waker of an executor that runs a task
    /// immediately may do.
    struct Reentrant(Queues, LockKey, AtomicUsize);

    impl Wake for Reentrant {
        fn wake(self: Arc<Self>) {
            if self.2.fetch_add(1, Ordering::SeqCst) == 0 {
                drop(self.0.join(&self.1));
                self.0.freed(&self.1);
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
                let (place, home) = (queues.join(&key), runtime.handle());
                Box::pin(async move { place.drive(home, std::future::pending::<()>()).await })
            };
            let mut context = Context::from_waker(&waker);
            let (mut head, mut next) = (wait(), wait());
            assert!(head.as_mut().poll(&mut context).is_pending());
            queues.freed(&key);
            let of_a_release = woken.2.swap(0, Ordering::SeqCst);
            assert!(next.as_mut().poll(&mut context).is_pending());
            drop(head);
            done.send((of_a_release, woken.2.load(Ordering::SeqCst))).unwrap();
        });
        let (of_a_release, of_a_leave) = ended.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(of_a_release > 0 && of_a_leave > 0, "{of_a_release} and {of_a_leave}");
    }
}
