//! Timers for futures that are polled outside every runtime.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, Waker},
    thread,
    time::Instant,
};

/// The alarms of this process, in the order in which they are due.
static ALARMS: Mutex<BTreeMap<Key, Waker>> = Mutex::new(BTreeMap::new());

/// Notified when the first alarm may have changed.
static CHANGED: Condvar = Condvar::new();

/// When an alarm is due, and a number that distinguishes alarms of the same instant.
type Key = (Instant, u64);

/// Wakes its task at an instant, from a thread that all alarms of the process share.
#[derive(Debug)]
pub(super) struct Alarm {
    due: Instant,
    key: Option<Key>,
}

impl Alarm {
    pub(super) fn new(due: Instant) -> Self {
        Self { due, key: None }
    }

    pub(super) fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        if Instant::now() >= self.due {
            return Poll::Ready(());
        }
        if !ensure_running() {
            // Without a thread, the task wakes itself: that is a busy loop, but no wake-up is lost.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut due = alarms();
        let key = *self.key.get_or_insert_with(|| next_key(&due, self.due));
        due.insert(key, context.waker().clone());
        drop(due);
        CHANGED.notify_one();
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let removed = alarms().remove(&key);
            // Outside the lock: dropping a waker runs code of the executor.
            drop(removed);
        }
    }
}

fn next_key(alarms: &BTreeMap<Key, Waker>, due: Instant) -> Key {
    let last = alarms.range((due, 0)..=(due, u64::MAX)).next_back();
    (due, last.map_or(0, |((_, number), _)| number + 1))
}

fn alarms() -> MutexGuard<'static, BTreeMap<Key, Waker>> {
    // Nothing panics while the map is locked, so it is consistent even if poisoned.
    ALARMS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the thread at the first call. Returns whether it was started.
fn ensure_running() -> bool {
    static STARTED: OnceLock<bool> = OnceLock::new();
    *STARTED.get_or_init(|| {
        thread::Builder::new().name("syncguard-alarm".to_owned()).spawn(run).is_ok()
    })
}

fn run() {
    let mut due = alarms();
    loop {
        let now = Instant::now();
        let later = due.split_off(&(now, u64::MAX));
        let expired = std::mem::replace(&mut *due, later);
        if !expired.is_empty() {
            // Wakers run code of the executor, which may create another alarm.
            drop(due);
            expired.into_values().for_each(Waker::wake);
            due = alarms();
            continue;
        }
        due = match due.first_key_value() {
            Some(((first, _), _)) => {
                let rest = first.saturating_duration_since(now);
                CHANGED.wait_timeout(due, rest).unwrap_or_else(PoisonError::into_inner).0
            }
            None => CHANGED.wait(due).unwrap_or_else(PoisonError::into_inner),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::{
        task::{Context, Waker},
        time::{Duration, Instant},
    };

    use super::{Alarm, alarms};

    #[test]
    fn alarms_of_one_instant_are_distinct_and_are_removed_when_they_are_dropped() {
        let due = Instant::now() + Duration::from_secs(3_600);
        let pending = || alarms().range((due, 0)..=(due, u64::MAX)).count();
        let mut three = [(); 3].map(|()| Alarm::new(due));
        for alarm in three.iter_mut().chain(&mut [Alarm::new(due)]) {
            for _ in 0..2 {
                assert!(alarm.poll(&Context::from_waker(Waker::noop())).is_pending());
            }
        }
        assert_eq!(pending(), 3);
        drop(three);
        assert_eq!(pending(), 0);
    }
}
