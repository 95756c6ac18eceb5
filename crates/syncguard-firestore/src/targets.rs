//! The documents that have waiters.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::names::DocumentName;

/// How long a document stays watched after its last waiter has left. A waiter for a contended lock
/// usually returns soon.
const LINGER: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(crate) struct Targets {
    open: Mutex<Open>,
    /// Notifies the listener that a document is wanted.
    pub(crate) wanted: Notify,
}

#[derive(Default)]
struct Open {
    targets: HashMap<DocumentName, Target>,
    /// The id that was assigned last. No id is assigned twice, so an event of one stream is never
    /// taken for an event of another.
    last_id: i32,
}

struct Target {
    waiting: usize,
    state: State,
    left_at: Instant,
    news: Arc<Notify>,
}

/// The progress of listening to a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Wanted,
    Asked { id: i32 },
    Confirmed { id: i32 },
}

/// A registration as a waiter on a document.
pub(crate) struct Seat<'a> {
    targets: &'a Targets,
    name: DocumentName,
    pub(crate) news: Arc<Notify>,
}

impl<'a> Seat<'a> {
    pub(crate) fn take(targets: &'a Targets, name: DocumentName) -> Self {
        let mut open = targets.lock();
        let entry = open.targets.entry(name.clone()).or_insert_with(|| Target {
            waiting: 0,
            state: State::Wanted,
            left_at: Instant::now(),
            news: Arc::default(),
        });
        entry.waiting += 1;
        let news = entry.news.clone();
        Self { targets, name, news }
    }

    /// Returns whether the document has not been requested yet.
    pub(crate) fn is_first(&self) -> bool {
        let open = self.targets.lock();
        open.targets.get(&self.name).is_some_and(|target| target.state == State::Wanted)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if let Some(target) = self.targets.lock().targets.get_mut(&self.name) {
            target.waiting -= 1;
            target.left_at = Instant::now();
        }
    }
}

impl State {
    fn id(self) -> Option<i32> {
        match self {
            Self::Wanted => None,
            Self::Asked { id } | Self::Confirmed { id } => Some(id),
        }
    }
}

impl Targets {
    fn lock(&self) -> MutexGuard<'_, Open> {
        // No code panics while the mutex is held.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().targets.is_empty()
    }

    /// Assigns ids to the documents that have not been requested yet, and returns both to be
    /// requested now.
    pub(crate) fn take_wanted(&self) -> Vec<(i32, DocumentName)> {
        let Open { targets, last_id } = &mut *self.lock();
        let wanted = targets.iter_mut().filter(|(_, target)| target.state == State::Wanted);
        wanted
            .map(|(name, target)| {
                // Ids are positive.
                *last_id = last_id.checked_add(1).unwrap_or(1);
                target.state = State::Asked { id: *last_id };
                (*last_id, name.clone())
            })
            .collect()
    }

    /// Records that the initial state was reported: from here on, changes are reported too. That
    /// counts as a notification, because a release may have been missed until now.
    pub(crate) fn confirm(&self, ids: &[i32]) {
        for target in self.lock().targets.values_mut() {
            if let State::Asked { id } = target.state
                && is_meant(id, ids)
            {
                target.state = State::Confirmed { id };
                target.news.notify_waiters();
            }
        }
    }

    /// Treats all targets as lost.
    pub(crate) fn want_all(&self) {
        for target in self.lock().targets.values_mut() {
            target.state = State::Wanted;
        }
    }

    /// Reports the end of a lock. The initial state of a document does not count.
    pub(crate) fn tell(&self, name: &DocumentName) {
        if let Some(target) = self.lock().targets.get(name)
            && let State::Confirmed { .. } = target.state
        {
            target.news.notify_waiters();
        }
    }

    /// Reports that something may have been missed.
    pub(crate) fn tell_of(&self, ids: &[i32]) {
        for target in self.lock().targets.values() {
            if target.state.id().is_some_and(|id| is_meant(id, ids)) {
                target.news.notify_waiters();
            }
        }
    }

    /// Removes the documents that have had no waiter for a while, and returns their ids.
    pub(crate) fn sweep(&self) -> Vec<i32> {
        let mut open = self.lock();
        let idle = |target: &Target| target.waiting == 0 && target.left_at.elapsed() > LINGER;
        let idle = open.targets.extract_if(|_, target| idle(target));
        idle.filter_map(|(_, target)| target.state.id()).collect()
    }
}

/// The service means all targets where it names none.
fn is_meant(id: i32, ids: &[i32]) -> bool {
    ids.is_empty() || ids.contains(&id)
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Future, poll_fn},
        pin::pin,
        task::Poll,
    };

    use super::{Seat, Targets};
    use crate::names::DocumentName;

    fn name(text: &str) -> DocumentName {
        DocumentName::new(text.to_owned())
    }

    /// Returns which of these steps wake a waiter for `a`.
    async fn woken_by(steps: &[&(dyn Fn(&Targets) + Sync)]) -> Vec<bool> {
        let targets = Targets::default();
        let seat = Seat::take(&targets, name("a"));
        let mut woken = Vec::new();
        for step in steps {
            let mut news = pin!(seat.news.notified());
            news.as_mut().enable();
            step(&targets);
            woken.push(poll_fn(|cx| Poll::Ready(news.as_mut().poll(cx).is_ready())).await);
        }
        woken
    }

    #[tokio::test]
    async fn a_waiter_is_woken_when_its_target_is_up_and_by_each_end_from_then_on() {
        let ask = |targets: &Targets| assert_eq!(targets.take_wanted().len(), 1);
        let end = |targets: &Targets| targets.tell(&name("a"));
        let other = |targets: &Targets| targets.tell(&name("b"));
        let up = |targets: &Targets| targets.confirm(&[1]);
        let woken = woken_by(&[&ask, &end, &up, &up, &other, &end]).await;
        assert_eq!(woken, [false, false, true, false, false, true]);
    }

    #[tokio::test]
    async fn what_was_told_of_the_stream_before_confirms_nothing() {
        let ask = |targets: &Targets| drop(targets.take_wanted());
        let lose = |targets: &Targets| targets.want_all();
        let late = |targets: &Targets| targets.confirm(&[1]);
        let up = |targets: &Targets| targets.confirm(&[2]);
        assert_eq!(woken_by(&[&ask, &lose, &ask, &late, &up]).await[3..], [false, true]);
    }

    #[tokio::test]
    async fn what_is_told_of_no_target_is_told_of_all() {
        let ask = |targets: &Targets| drop(targets.take_wanted());
        let up = |targets: &Targets| targets.confirm(&[]);
        let missed = |targets: &Targets| targets.tell_of(&[]);
        let others = |targets: &Targets| targets.tell_of(&[7]);
        let woken = woken_by(&[&ask, &up, &missed, &others]).await;
        assert_eq!(woken, [false, true, true, false]);
    }
}
