//! The documents that have waiters.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use syncguard_core::backend::{LINGER, SubscribedKey, Subscription, Subscriptions};
use tokio::sync::Notify;

use crate::{client::Document, names::DocumentName, seen::Seen};

#[derive(Default)]
pub(crate) struct Targets {
    inner: Mutex<Inner>,
    /// Notifies the listener that a document is wanted.
    pub(crate) wanted: Notify,
}

#[derive(Default)]
struct Inner {
    targets: Subscriptions<DocumentName, Target>,
    /// Every document that is wanted, and perhaps some that are requested or gone. It saves the
    /// listener from a search among all documents after each event.
    wanted: Vec<DocumentName>,
    /// The documents of the ids that are in use.
    by_id: HashMap<i32, DocumentName>,
    /// The id that was assigned last. No id is assigned twice, so an event of one stream is never
    /// taken for an event of another.
    last_id: i32,
}

/// A document that has waiters.
#[derive(Debug)]
struct Target {
    progress: Progress,
    /// The document as the stream last reported it, if it exists.
    seen: Option<Seen>,
}

impl Target {
    const WANTED: Self = Self { progress: Progress::Wanted, seen: None };
}

/// The progress of listening to a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Wanted,
    Requested { id: i32 },
    Confirmed { id: i32 },
}

impl Progress {
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

    /// Subscribes a waiter to the changes of a document.
    pub(crate) fn subscribe(&self, name: DocumentName) -> Subscription {
        let Inner { targets, wanted, .. } = &mut *self.lock();
        targets.subscribe(name.clone(), || {
            wanted.push(name);
            Target::WANTED
        })
    }

    /// Returns whether the document has not been requested yet.
    pub(crate) fn is_wanted(&self, name: &DocumentName) -> bool {
        self.lock()
            .targets
            .get(name)
            .is_some_and(|target| target.state.progress == Progress::Wanted)
    }

    /// Returns whether the stream reports changes of the document.
    pub(crate) fn is_confirmed(&self, name: &DocumentName) -> bool {
        let inner = self.lock();
        let target = inner.targets.get(name);
        target.is_some_and(|target| matches!(target.state.progress, Progress::Confirmed { .. }))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().targets.is_empty()
    }

    /// Assigns ids to the documents that have not been requested yet, and returns both to be
    /// requested now.
    pub(crate) fn take_wanted(&self) -> Vec<(i32, DocumentName)> {
        let Inner { targets, wanted, by_id, last_id } = &mut *self.lock();
        let request = |name: DocumentName| {
            let target = targets.get_mut(&name)?;
            if target.state.progress != Progress::Wanted {
                return None;
            }
            // Ids are positive.
            *last_id = last_id.checked_add(1).unwrap_or(1);
            target.state.progress = Progress::Requested { id: *last_id };
            by_id.insert(*last_id, name.clone());
            Some((*last_id, name))
        };
        std::mem::take(wanted).into_iter().filter_map(request).collect()
    }

    /// Records that the initial state was reported: from here on, changes are reported too. That
    /// counts as a notification, because a release may have been missed until now.
    pub(crate) fn confirm(&self, ids: &[i32]) {
        self.lock().for_each(ids, |target| {
            if let Progress::Requested { id } = target.state.progress {
                target.state.progress = Progress::Confirmed { id };
                target.subscription().notify_waiters();
            }
        });
    }

    /// Treats all targets as lost.
    pub(crate) fn want_all(&self) {
        let Inner { targets, wanted, by_id, .. } = &mut *self.lock();
        wanted.clear();
        by_id.clear();
        for (name, target) in targets.iter_mut() {
            target.state = Target::WANTED;
            wanted.push(name.clone());
        }
    }

    /// Notifies the waiters that a lock has ended. The initial state of a document does not count.
    pub(crate) fn notify_deleted(&self, name: &DocumentName) {
        self.report(name, None, |_| true);
    }

    /// Notifies the waiters of a lock whose readers have changed so that one of them may be granted
    /// it.
    pub(crate) fn notify_changed(&self, document: &Document) {
        let seen = Seen::new(document);
        self.report(&document.name, Some(seen), |[before, after]| match (before, after) {
            (Some(before), Some(after)) => before.frees_for_others(after),
            _ => false,
        });
    }

    fn report(
        &self,
        name: &DocumentName,
        seen: Option<Seen>,
        concerns_waiters: impl FnOnce([Option<&Seen>; 2]) -> bool,
    ) {
        if let Some(target) = self.lock().targets.get_mut(name) {
            let before = std::mem::replace(&mut target.state.seen, seen);
            let concerns_waiters = concerns_waiters([before.as_ref(), target.state.seen.as_ref()]);
            if concerns_waiters && matches!(target.state.progress, Progress::Confirmed { .. }) {
                target.subscription().notify_waiters();
            }
        }
    }

    /// Notifies the waiters of these targets that a release may have been missed.
    pub(crate) fn notify_missed(&self, ids: &[i32]) {
        self.lock().for_each(ids, |target| target.subscription().notify_waiters());
    }

    /// Removes the documents that have had no waiter for a while, and returns their ids.
    pub(crate) fn sweep(&self) -> Vec<i32> {
        let Inner { targets, by_id, .. } = &mut *self.lock();
        let swept = targets.sweep(LINGER).into_iter();
        let ids: Vec<_> = swept.filter_map(|(_, target)| target.progress.id()).collect();
        ids.iter().for_each(|id| drop(by_id.remove(id)));
        ids
    }
}

impl Inner {
    /// Visits the targets with these ids. The service means all targets where it names none.
    fn for_each(&mut self, ids: &[i32], mut visit: impl FnMut(&mut SubscribedKey<Target>)) {
        let Self { targets, by_id, .. } = self;
        if ids.is_empty() {
            by_id.values().for_each(|name| targets.get_mut(name).into_iter().for_each(&mut visit));
        }
        for name in ids.iter().filter_map(|id| by_id.get(id)) {
            targets.get_mut(name).into_iter().for_each(&mut visit);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Future, poll_fn},
        pin::pin,
        task::Poll,
    };

    use super::Targets;
    use crate::names::DocumentName;

    fn name(text: &str) -> DocumentName {
        DocumentName::new(text.to_owned())
    }

    /// Returns which of these steps notify a waiter for `a`.
    async fn notified_by(steps: &[&(dyn Fn(&Targets) + Sync)]) -> Vec<bool> {
        let targets = Targets::default();
        let subscription = targets.subscribe(name("a"));
        let mut outcomes = Vec::new();
        for step in steps {
            let mut notified = pin!(subscription.notified());
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

    #[test]
    fn a_document_is_wanted_once_and_again_on_the_next_stream() {
        let targets = Targets::default();
        let _waiters = ["a", "b", "a"].map(|text| targets.subscribe(name(text)));
        let ids = |wanted: Vec<(i32, DocumentName)>| {
            let mut ids: Vec<_> = wanted.into_iter().map(|(id, _)| id).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(ids(targets.take_wanted()), [1, 2]);
        assert!(targets.take_wanted().is_empty());
        targets.confirm(&[1]);
        assert!(targets.is_confirmed(&name("a")) && !targets.is_confirmed(&name("b")));
        targets.want_all();
        assert!(!targets.is_confirmed(&name("a")));
        assert_eq!(ids(targets.take_wanted()), [3, 4]);
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
