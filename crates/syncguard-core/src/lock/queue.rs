//! The queues of this process: one for each key, whose head sends requests to the store.

#[cfg(test)]
mod tests;

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
    announcing::{Announcing, PendingAnnouncement},
    attempt::AttemptOutcome,
    contender::{Attempt, Candidate, Place, Subscription},
    fairness::Fairness,
    retry::ALIGNMENT,
    shared::{Holds, Shared},
    stats::{KeyStats, LockStats},
    turn::{Due, Turn},
    waiters::Waiters,
};
use crate::{
    Error, LockKey,
    backend::{LockBackend, Mode},
};

/// How long a woken head may stay unpolled before the turn passes to the next waiter, and a woken
/// waiter beside it before it loses its admission.
///
/// A future that is polled by a task is polled within microseconds. A future that needs longer is
/// no longer polled, or runs on a runtime that is blocked or that no thread drives.
const MAX_UNPOLLED: Duration = Duration::from_millis(250);

/// How long an empty queue is retained after another process contended for its key. A single task
/// that acquires and releases the key in a loop shuts others out as much as many tasks do.
const RETENTION: Duration = Duration::from_secs(2);

/// The waiters and the holders of one process, with one queue for each key.
///
/// **Invariant:** however many tasks wait for a key, one of them, the head, contends at the store.
/// The others wait in memory, in the order of their arrival and priority. Only readers make
/// attempts beside the head, and only as many at once as were granted in a row before.
///
/// **Invariant:** an entry lives as long as its key has a waiter or a holder in this process, and
/// for [`RETENTION`] longer if other processes contend for the key too. Both are counted under the
/// lock of the map, so if two leave at the same instant, the second sees that the first is gone. (A
/// reference count would not suffice: each could still see the other's reference.)
///
/// No waker is called, and nothing of the backend is dropped, while a lock of this module is held:
/// both run foreign code, which may call back into this module.
#[derive(Clone)]
pub(crate) struct Queues {
    map: Arc<Mutex<Map>>,
    created: Instant,
}

impl Default for Queues {
    fn default() -> Self {
        Self { map: Arc::default(), created: Instant::now() }
    }
}

#[derive(Default)]
struct Map {
    entries: HashMap<LockKey, Entry>,
    /// The keys of entries that may exist without a waiter, each once, the oldest first.
    retained: VecDeque<LockKey>,
}

#[derive(Default)]
struct Entry {
    waiters: usize,
    /// How many locks of this process hold the key, as far as they know.
    holders: Holders,
    queue: Arc<Queue>,
    /// Until when the entry stays without a waiter; `None` if it is removed with the last one.
    retained_until: Option<Instant>,
}

/// Counts the locks of one key by their mode.
#[derive(Clone, Copy, Default)]
struct Holders {
    exclusive: usize,
    shared: usize,
}

impl Holders {
    fn of(&mut self, mode: Mode) -> &mut usize {
        if mode.is_shared() { &mut self.shared } else { &mut self.exclusive }
    }

    fn is_empty(self) -> bool {
        self.exclusive == 0 && self.shared == 0
    }
}

impl Queues {
    /// Joins the queue for `key`.
    pub(crate) fn join(&self, key: &LockKey, mode: Mode, priority: i32) -> Waiter {
        let mut queues = self.lock();
        let entry = queues.entries.entry(key.clone()).or_default();
        entry.waiters += 1;
        let queue = entry.queue.clone();
        drop(queues);
        let arrived = Instant::now();
        let age = arrived.saturating_duration_since(self.created);
        let place = queue.waiters().next_place(age, priority);
        let candidate = Candidate { place, mode, arrived };
        Waiter { queues: self.clone(), key: key.clone(), queue, candidate }
    }

    /// Notifies the head of the queue for `key`, if there is one, that the key may be free.
    pub(crate) fn notify_released(&self, key: &LockKey) {
        self.notify(key, Due::Released);
    }

    fn notify(&self, key: &LockKey, due: Due) {
        let queue = self.lock().entries.get(key).map(|entry| entry.queue.clone());
        if let Some(queue) = queue {
            let wakers = queue.waiters().notify(due);
            wakers.wake();
        }
    }

    /// Reports the keys that have a holder or a waiter in this process.
    pub(crate) fn stats(&self) -> LockStats {
        let entries: Vec<_> = {
            let queues = self.lock();
            let entries = queues.entries.iter();
            entries.map(|(key, entry)| (key.clone(), entry.holders, entry.queue.clone())).collect()
        };
        let now = Instant::now();
        let keys = entries.into_iter().map(|(key, holders, queue)| {
            let (waiters, oldest) = queue.waiters().summary();
            let longest_wait = oldest.map(|arrived| now.saturating_duration_since(arrived));
            KeyStats {
                key,
                holders: holders.exclusive + holders.shared,
                readers: holders.shared,
                waiters,
                longest_wait: longest_wait.unwrap_or_default(),
            }
        });
        LockStats::new(keys.filter(|key| key.holders > 0 || key.waiters > 0).collect())
    }

    /// Removes a waiter. The last one removes its queue, unless the queue is to be retained.
    fn leave(&self, key: &LockKey, retain: bool) {
        let mut queues = self.lock();
        let removed = (queues.leave(key, retain.then(Instant::now)), queues.remove_expired());
        drop(queues);
        drop(removed);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    fn lock(&self) -> MutexGuard<'_, Map> {
        // Nothing panics while the map is locked, so it is consistent even if poisoned.
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holds for Queues {
    fn began(&self, key: &LockKey, mode: Mode) {
        let mut queues = self.lock();
        match queues.entries.get_mut(key) {
            Some(entry) => *entry.holders.of(mode) += 1,
            None => *queues.entries.entry(key.clone()).or_default().holders.of(mode) += 1,
        }
    }

    fn ended(&self, key: &LockKey, mode: Mode) {
        let removed = self.lock().end_hold(key, mode);
        drop(removed);
    }

    fn released(&self, key: &LockKey, mode: Mode) {
        let mut queues = self.lock();
        let removed = queues.end_hold(key, mode);
        // An entry that was removed has no waiter.
        let entry = if removed.is_none() { queues.entries.get(key) } else { None };
        // A reader that leaves others behind has freed nothing.
        let stays_shared = mode == Mode::SHARED && entry.is_some_and(|e| e.holders.shared > 0);
        let queue = entry.filter(|_| !stays_shared).map(|entry| entry.queue.clone());
        drop(queues);
        drop(removed);
        if let Some(queue) = queue {
            let wakers = queue.waiters().notify(Due::Released);
            wakers.wake();
        }
    }

    fn freed(&self, key: &LockKey) {
        self.notify_released(key);
    }

    fn abandoned(&self, key: &LockKey) {
        self.notify(key, Due::Abandoned);
    }
}

impl Map {
    /// Counts a holder less. Returns the entry if that was the last that kept it.
    fn end_hold(&mut self, key: &LockKey, mode: Mode) -> Option<Entry> {
        let entry = self.entries.get_mut(key)?;
        let holders = entry.holders.of(mode);
        *holders = holders.saturating_sub(1);
        match entry.is_needed() {
            true => None,
            false => self.entries.remove(key),
        }
    }

    fn leave(&mut self, key: &LockKey, retained_from: Option<Instant>) -> Option<Entry> {
        let entry = self.entries.get_mut(key)?;
        entry.waiters -= 1;
        if let Some(now) = retained_from {
            if entry.retained_until.replace(now + RETENTION).is_none() {
                self.retained.push_back(key.clone());
            }
            return None;
        }
        match entry.is_needed() {
            true => None,
            false => self.entries.remove(key),
        }
    }

    /// Removes one entry whose retention is over. Each call checks one entry, so that every call is
    /// short. There are never many more such entries than were added within the retention.
    fn remove_expired(&mut self) -> Option<Entry> {
        let key = self.retained.pop_front()?;
        let entry = self.entries.get_mut(&key)?;
        if entry.retained_until.is_some_and(|until| Instant::now() < until) {
            self.retained.push_back(key);
            return None;
        }
        entry.retained_until = None;
        match entry.is_needed() {
            true => None,
            false => self.entries.remove(&key),
        }
    }
}

impl Entry {
    /// Returns whether the entry stays. One that is retained is removed when its retention is over.
    fn is_needed(&self) -> bool {
        self.waiters > 0 || !self.holders.is_empty() || self.retained_until.is_some()
    }
}

/// The queue for one key. It is also the waker of its head: a wake-up of the contending future
/// reaches the current head, and the watchers see it.
#[derive(Default)]
struct Queue(Mutex<Waiters>);

impl Queue {
    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        // Nothing panics while the waiters are locked, so they are consistent even if poisoned.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the turn from a head, and the admission from those beside it, that were woken by
    /// `wake_up` or earlier and not polled since.
    fn skip_unpolled(&self, wake_up: u64) {
        let (attempts, wakers) = self.waiters().skip_unpolled(wake_up);
        // An attempt in flight continues in the background, which releases a grant.
        drop(attempts);
        wakers.wake();
    }
}

impl Wake for Queue {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let wakers = self.waiters().head_woken();
        wakers.wake();
    }
}

/// The waker of a waiter beside the head: the watchers see its wake-ups too.
struct AdmittedWaker {
    queue: Arc<Queue>,
    place: Place,
}

impl Wake for AdmittedWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let wakers = self.queue.waiters().woken(self.place);
        wakers.wake();
    }
}

/// Where the queue keeps what a waiter has between two polls; `None` if it is not its turn.
type Slot<T> = fn(&mut Waiters, Place) -> Option<&mut Option<T>>;

/// A waiter in a queue. Dropping it leaves the queue.
pub(crate) struct Waiter {
    queues: Queues,
    key: LockKey,
    queue: Arc<Queue>,
    candidate: Candidate,
}

impl Waiter {
    /// Waits until this waiter is the head, or is admitted to one attempt beside the head. Only for
    /// shared mode.
    pub(crate) async fn turn(&self, home: &Handle) -> Turn {
        poll_fn(|context| match self.poll_turn(home, true, context) {
            Turn::Waiting => Poll::Pending,
            turn => Poll::Ready(turn),
        })
        .await
    }

    fn poll_turn(&self, home: &Handle, is_admissible: bool, context: &Context<'_>) -> Turn {
        let mut waiters = self.queue.waiters();
        let (turn, wakers) = waiters.poll_turn(self.candidate, is_admissible, context.waker());
        let depends_on_others = waiters.depends_on_others(turn);
        drop(waiters);
        wakers.wake();
        if depends_on_others {
            self.watch(home);
        }
        turn
    }

    /// Records how an attempt in shared mode ended. After a refusal, a waiter that was admitted to
    /// it waits again, in its old place.
    pub(crate) fn shared_attempt_ended(&self, is_granted: bool) {
        let mut waiters = self.queue.waiters();
        if !is_granted {
            return waiters.shared_refused(self.candidate.place);
        }
        let wakers = waiters.shared_granted(self.candidate.mode);
        drop(waiters);
        wakers.wake();
    }

    /// Polls `contend` whenever this waiter is the head.
    ///
    /// **Invariant:** a head that is not polled does not keep the key from the waiters behind it,
    /// and a waiter beside the head does not keep it from any. Their wake-ups go through the queue.
    /// If a wake-up is not followed by a poll within [`MAX_UNPOLLED`], the head loses the turn, the
    /// other one its admission, and an attempt in flight continues in the background, where a grant
    /// is released. Both keep their place: when polled again, they precede waiters that came later.
    /// A task on the runtime of each waiter measures the time, because neither an unpolled future
    /// nor an undriven runtime can do so.
    pub(crate) async fn drive<F: Future>(&self, home: &Handle, contend: F) -> F::Output {
        let (waker, mut contend) = (Waker::from(self.queue.clone()), pin!(contend));
        poll_fn(|context| match self.poll_turn(home, false, context) {
            Turn::Head => contend.as_mut().poll(&mut Context::from_waker(&waker)),
            Turn::Admitted | Turn::Waiting => Poll::Pending,
        })
        .await
    }

    /// Makes an attempt as a waiter that was admitted beside the head; returns `None` if it lost its
    /// admission, and the attempt with it, because it was not polled in time.
    pub(crate) async fn attempt_beside_head(
        &self,
        home: &Handle,
        attempt: Attempt,
    ) -> Option<Result<AttemptOutcome, Error>> {
        let (queue, place) = (self.queue.clone(), self.candidate.place);
        let waker = Waker::from(Arc::new(AdmittedWaker { queue, place }));
        let mut attempt = pin!(self.attempt(attempt));
        poll_fn(|context| match self.poll_turn(home, true, context) {
            Turn::Admitted => attempt.as_mut().poll(&mut Context::from_waker(&waker)),
            Turn::Head | Turn::Waiting => Poll::Ready(None),
        })
        .await
    }

    /// Starts the watcher of the queue on a runtime that has none yet.
    fn watch(&self, runtime: &Handle) {
        if self.queue.waiters().watchers.add(runtime.id()) {
            let (queue, runtime_id) = (self.queue.clone(), runtime.id());
            runtime.spawn(watch(Watcher { queue, runtime: runtime_id, listed: true }));
        }
    }

    /// Makes an attempt; returns `None` if the turn, and the attempt with it, was lost meanwhile.
    pub(crate) async fn attempt(&self, attempt: Attempt) -> Option<Result<AttemptOutcome, Error>> {
        let mut first = Some(attempt);
        poll_fn(|context| {
            let mut attempt = match first.take() {
                Some(first) => first,
                None => match self.take(Waiters::attempt) {
                    Some(Some(attempt)) => attempt,
                    Some(None) => return Poll::Ready(None),
                    None => return Poll::Pending,
                },
            };
            let polled = Pin::new(&mut attempt).poll(context);
            if polled.is_pending() {
                self.put_back(Waiters::attempt, attempt);
            }
            polled.map(Some)
        })
        .await
    }

    /// Takes what the queue keeps for this waiter, for a poll; returns `None` if it is not its turn.
    /// A poll may take so long that the turn is lost during it.
    fn take<T>(&self, slot: Slot<T>) -> Option<Option<T>> {
        slot(&mut self.queue.waiters(), self.candidate.place).map(Option::take)
    }

    /// Puts it back into the queue between two polls, where the task that takes the turn away finds
    /// it. If the turn was lost during this poll, the value is dropped.
    fn put_back<T>(&self, slot: Slot<T>, value: T) {
        let mut waiters = self.queue.waiters();
        let rest = match slot(&mut waiters, self.candidate.place) {
            Some(slot) => slot.replace(value),
            None => Some(value),
        };
        drop(waiters);
        drop(rest);
    }

    /// Begins an announcement of this waiter, the head, with the attempt that it is about to make.
    /// Returns `None` if the turn was lost.
    pub(crate) fn announce(
        &self,
        shared: &Arc<Shared>,
        home: &Handle,
    ) -> Option<PendingAnnouncement> {
        let begin = || Announcing::new(shared.clone(), self.key.clone(), home.clone());
        let mut waiters = self.queue.waiters();
        let announcing = waiters.announcing(self.candidate.place)?;
        Some(announcing.get_or_insert_with(begin).announce())
    }

    /// As [`announce`](Self::announce), if the writer that was the head before has announced itself.
    pub(crate) fn continue_announcement(&self) -> Option<PendingAnnouncement> {
        let mut waiters = self.queue.waiters();
        waiters.announcing(self.candidate.place)?.as_ref().map(Announcing::announce)
    }

    /// Records that this waiter, the head, was granted the key, which has ended the announcement.
    pub(crate) fn announcement_granted(&self) {
        let mut waiters = self.queue.waiters();
        let announcing = waiters.announcing(self.candidate.place);
        announcing.into_iter().flatten().for_each(|announcing| announcing.granted());
    }

    /// Discards earlier reasons for an attempt.
    pub(crate) fn clear_attempt_due(&self) {
        self.queue.waiters().attempt_due = None;
    }

    /// Completes when an attempt is due for this reason or a stronger one since
    /// [`clear_attempt_due`](Self::clear_attempt_due).
    pub(crate) async fn attempt_due(&self, least: Due) {
        // Each event wakes the head, which polls this again.
        let due = |_: &mut Context<'_>| match self.queue.waiters().attempt_due {
            Some(due) if due >= least => Poll::Ready(()),
            _ => Poll::Pending,
        };
        poll_fn(due).await;
    }

    /// Returns whether the queue is subscribed to the releases of other processes.
    pub(crate) fn is_subscribed(&self) -> bool {
        self.queue.waiters().is_subscribed()
    }

    /// Returns the first time from `at` on at which other waiters of this process make attempts too.
    pub(crate) fn aligned(&self, at: Instant) -> Instant {
        let age = at.saturating_duration_since(self.queues.created).as_nanos();
        let missing = age.next_multiple_of(ALIGNMENT.as_nanos()) - age;
        at + Duration::from_nanos(u64::try_from(missing).unwrap_or_default())
    }

    /// Subscribes to the releases of other processes. No later release is missed, except those that
    /// are another waiter's [turn](LockBackend::turn).
    pub(crate) async fn subscribe(&self, shared: &Shared, home: &Handle) {
        let (backend, key) = (shared.backend.clone(), self.key.clone());
        let mut released: Subscription = Box::pin(async move { backend.turn(&key).await });
        let first = poll_fn(|context| {
            Poll::Ready(shared.runtimes.poll_in_context(Some(home), released.as_mut(), context))
        });
        // A notification at the first poll counts like any other: if many clients contend for a
        // key, releases may follow each other that closely.
        if first.await.is_ready() {
            released = Box::pin(std::future::ready(()));
        }
        self.put_back(Waiters::subscription, released);
        let completed = self.take(Waiters::completed_subscription);
        drop(completed);
    }

    /// Completes when another process releases the lock; never completes without a subscription.
    pub(crate) async fn released_elsewhere(&self, shared: &Shared, home: &Handle) {
        poll_fn(|context| {
            let Some(Some(mut released)) = self.take(Waiters::subscription) else {
                return Poll::Pending;
            };
            let polled = shared.runtimes.poll_in_context(Some(home), released.as_mut(), context);
            match polled {
                Poll::Pending => self.put_back(Waiters::subscription, released),
                Poll::Ready(()) => self.put_back(Waiters::completed_subscription, released),
            }
            polled
        })
        .await;
    }

    /// Accesses the state of the fairness towards other processes.
    pub(crate) fn fairness<T>(&self, access: impl FnOnce(&mut Fairness) -> T) -> T {
        access(&mut self.queue.waiters().fairness)
    }

    /// Returns whether this process may have to pause for other processes, because more of its
    /// tasks wait or because it has seen another process.
    pub(crate) fn is_sharing(&self) -> bool {
        let waiters = self.queue.waiters();
        waiters.has_others() || waiters.fairness.is_contested()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiters = self.queue.waiters();
        let (removed, wakers) = waiters.remove(self.candidate.place);
        let retain = waiters.fairness.is_contested();
        drop(waiters);
        drop(removed);
        wakers.wake();
        self.queues.leave(&self.key, retain);
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
    let woken = || poll_fn(|context| queue.waiters().poll_overdue(runtime, context.waker()));
    while let Some(wake_up) = woken().await {
        tokio::time::sleep(MAX_UNPOLLED).await;
        queue.skip_unpolled(wake_up);
    }
    watcher.listed = false;
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Dropped with its runtime: the next waiter on a live runtime starts another watcher.
        if self.listed {
            let waker = self.queue.waiters().watchers.remove(self.runtime);
            drop(waker);
        }
    }
}
