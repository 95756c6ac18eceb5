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
    inner: Mutex<Inner>,
    /// Notifies the listener that a document is wanted.
    pub(crate) wanted: Notify,
}

#[derive(Default)]
struct Inner {
    targets: HashMap<DocumentName, Target>,
    /// The id that was assigned last. No id is assigned twice, so an event of one stream is never
    /// taken for an event of another.
    last_id: i32,
}

struct Target {
    waiters: usize,
    state: State,
    left_at: Instant,
    notify: Arc<Notify>,
}

/// The progress of listening to a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Wanted,
    Requested { id: i32 },
    Confirmed { id: i32 },
}

/// A registration as a waiter on a document. Dropping it removes the registration.
pub(crate) struct Waiter<'a> {
    targets: &'a Targets,
    name: DocumentName,
    pub(crate) notify: Arc<Notify>,
}

impl<'a> Waiter<'a> {
    pub(crate) fn register(targets: &'a Targets, name: DocumentName) -> Self {
        let mut inner = targets.lock();
        let entry = inner.targets.entry(name.clone()).or_insert_with(|| Target {
            waiters: 0,
            state: State::Wanted,
            left_at: Instant::now(),
            notify: Arc::default(),
        });
        entry.waiters += 1;
        let notify = entry.notify.clone();
        Self { targets, name, notify }
    }

    /// Returns whether the document has not been requested yet.
    pub(crate) fn needs_request(&self) -> bool {
        let inner = self.targets.lock();
        inner.targets.get(&self.name).is_some_and(|target| target.state == State::Wanted)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if let Some(target) = self.targets.lock().targets.get_mut(&self.name) {
            target.waiters -= 1;
            target.left_at = Instant::now();
        }
    }
}

impl State {
    fn id(self) -> Option<i32> {
        match self {
            Self::Wanted => None,
            Self::Requested { id } | Self::Confirmed { id } => Some(id),
        }
    }
}

impl Targets {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code panics while the mutex is held.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().targets.is_empty()
    }

    /// Assigns ids to the documents that have not been requested yet, and returns both to be
    /// requested now.
    pub(crate) fn take_wanted(&self) -> Vec<(i32, DocumentName)> {
        let Inner { targets, last_id } = &mut *self.lock();
        let wanted = targets.iter_mut().filter(|(_, target)| target.state == State::Wanted);
        wanted
            .map(|(name, target)| {
                // Ids are positive.
                *last_id = last_id.checked_add(1).unwrap_or(1);
                target.state = State::Requested { id: *last_id };
                (*last_id, name.clone())
            })
            .collect()
    }

    /// Records that the initial state was reported: from here on, changes are reported too. That
    /// counts as a notification, because a release may have been missed until now.
    pub(crate) fn confirm(&self, ids: &[i32]) {
        for target in self.lock().targets.values_mut() {
            if let State::Requested { id } = target.state
                && includes_target(id, ids)
            {
                target.state = State::Confirmed { id };
                target.notify.notify_waiters();
            }
        }
    }

    /// Treats all targets as lost.
    pub(crate) fn want_all(&self) {
        for target in self.lock().targets.values_mut() {
            target.state = State::Wanted;
        }
    }

    /// Notifies the waiters that a lock has ended. The initial state of a document does not count.
    pub(crate) fn notify_deleted(&self, name: &DocumentName) {
        if let Some(target) = self.lock().targets.get(name)
            && let State::Confirmed { .. } = target.state
        {
            target.notify.notify_waiters();
        }
    }

    /// Notifies the waiters of these targets that a release may have been missed.
    pub(crate) fn notify_missed(&self, ids: &[i32]) {
        for target in self.lock().targets.values() {
            if target.state.id().is_some_and(|id| includes_target(id, ids)) {
                target.notify.notify_waiters();
            }
        }
    }

    /// Removes the documents that have had no waiter for a while, and returns their ids.
    pub(crate) fn sweep(&self) -> Vec<i32> {
        let mut inner = self.lock();
        let idle = |target: &Target| target.waiters == 0 && target.left_at.elapsed() > LINGER;
        let idle = inner.targets.extract_if(|_, target| idle(target));
        idle.filter_map(|(_, target)| target.state.id()).collect()
    }
}

/// The service means all targets where it names none.
fn includes_target(id: i32, ids: &[i32]) -> bool {
    ids.is_empty() || ids.contains(&id)
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Future, poll_fn},
        pin::pin,
        task::Poll,
    };

    use super::{Targets, Waiter};
    use crate::names::DocumentName;

    fn name(text: &str) -> DocumentName {
        DocumentName::new(text.to_owned())
    }

    /// Returns which of these steps notify a waiter for `a`.
    async fn notified_by(steps: &[&(dyn Fn(&Targets) + Sync)]) -> Vec<bool> {
        let targets = Targets::default();
        let waiter = Waiter::register(&targets, name("a"));
        let mut outcomes = Vec::new();
        for step in steps {
            let mut notified = pin!(waiter.notify.notified());
            notified.as_mut().enable();
            step(&targets);
            outcomes.push(poll_fn(|cx| Poll::Ready(notified.as_mut().poll(cx).is_ready())).await);
        }
        outcomes
    }

    #[tokio::test]
    async fn a_waiter_is_notified_when_its_target_is_confirmed_and_by_each_deletion_after_that() {
        let request = |targets: &Targets| assert_eq!(targets.take_wanted().len(), 1);
        let delete = |targets: &Targets| targets.notify_deleted(&name("a"));
        let other = |targets: &Targets| targets.notify_deleted(&name("b"));
        let confirm_target = |targets: &Targets| targets.confirm(&[1]);
        let notified =
            notified_by(&[&request, &delete, &confirm_target, &confirm_target, &other, &delete])
                .await;
        assert_eq!(notified, [false, false, true, false, false, true]);
    }

    #[tokio::test]
    async fn a_confirmation_from_the_previous_stream_is_ignored() {
        let request = |targets: &Targets| drop(targets.take_wanted());
        let lose_stream = |targets: &Targets| targets.want_all();
        let late = |targets: &Targets| targets.confirm(&[1]);
        let confirm_target = |targets: &Targets| targets.confirm(&[2]);
        assert_eq!(
            notified_by(&[&request, &lose_stream, &request, &late, &confirm_target]).await[3..],
            [false, true]
        );
    }

    #[tokio::test]
    async fn a_notification_without_targets_concerns_all_targets() {
        let request = |targets: &Targets| drop(targets.take_wanted());
        let confirm_target = |targets: &Targets| targets.confirm(&[]);
        let missed = |targets: &Targets| targets.notify_missed(&[]);
        let others = |targets: &Targets| targets.notify_missed(&[7]);
        let notified = notified_by(&[&request, &confirm_target, &missed, &others]).await;
        assert_eq!(notified, [false, true, true, false]);
    }
}
