//! The line of the waiters of all clients, whose first is notified first of a release.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use syncguard_core::{
    Fence, LockId,
    backend::{Entry, Notified, Standings, Subscription, Substitute, Turn},
};

use crate::{client::Client, error::Failure, names::LockName, script::PASS};

/// The lines at the store, as one client uses them.
///
/// A release would otherwise wake every waiter, and all but one of them would send an attempt in
/// vain. The line of a lock is a sorted set at the server. An entry is not a grant: whoever sends an
/// attempt while the key is free is granted the key, in line or not. So the line may be wrong or
/// missing, and peers that do not know it may barge in.
///
/// **Entering costs no request.** The attempt of a waiter carries its entry, and the script that
/// refuses the attempt enters the line in the same step. So no release comes between the refusal and
/// the entry. The script that grants it leaves the line.
///
/// **Invariant:** no wake-up is lost. What wakes a waiter is that it is named, or that it is not in
/// line as far as this client knows (see [`Standings`]). A client enters only once the server has
/// confirmed its subscription. If messages may have been lost after that, with a connection for
/// example, all of its waiters count as not in line, and all are woken once it is subscribed again.
/// An attempt that was in flight meanwhile may still put its waiter in line; the attempt that
/// follows the wake-up enters again.
///
/// A client is in line once for each lock, because only the head of its own queue makes attempts.
pub(crate) struct Line {
    /// The waiters that are notified when it is their turn, by the names of their locks.
    standings: Mutex<Standings<String>>,
    client: Client,
    /// The name of this client in the lines.
    name: LockId,
    /// The command with which scripts publish.
    publish: &'static str,
}

/// An entry as the scripts expect it.
#[derive(Default)]
pub(crate) struct EntryWords {
    pub(crate) keys: [String; 2],
    pub(crate) place: String,
    pub(crate) fence: String,
}

impl EntryWords {
    /// Writes an entry. Without one, all words are empty.
    pub(crate) fn new(lock: &LockName, entry: Option<&Entry>) -> Self {
        let Some(entry) = entry else { return Self::default() };
        let place = entry.place.map(|place| place.to_string()).unwrap_or_default();
        // As in the record of a lock.
        let fence = entry.granted.map(|fence| format!("{:015}", fence.number()));
        Self { keys: lock.line(), place, fence: fence.unwrap_or_default() }
    }
}

impl Line {
    pub(crate) fn new(client: &Client, name: LockId, publish: &'static str) -> Self {
        Self { standings: Mutex::default(), client: client.clone(), name, publish }
    }

    fn lock(&self) -> MutexGuard<'_, Standings<String>> {
        // No code panics while the mutex is held.
        self.standings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the name of this client in the lines.
    pub(crate) fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Subscribes a waiter to its turns.
    pub(crate) fn subscribe(&self, lock: &LockName) -> Subscription {
        self.lock().subscribe(lock.as_str().to_owned())
    }

    /// Returns the entry for an attempt, if a waiter makes it.
    pub(crate) fn entry(&self, lock: &LockName) -> Option<Entry> {
        self.lock().entry(lock.as_str())
    }

    /// Records that an attempt with this entry was refused. It is in line if it has a place.
    pub(crate) fn refused(&self, lock: &LockName, entry: &Entry, place: Option<i64>) {
        let mut standings = self.lock();
        match place {
            Some(place) => standings.entered(lock.as_str(), entry, place),
            None => standings.set_not_in_line(lock.as_str()),
        }
    }

    /// Records a grant, with its fence if it is exclusive. Leaves the line in the background unless
    /// the attempt had an entry.
    pub(crate) fn granted(self: &Arc<Self>, lock: &LockName, fence: Option<Fence>, entered: bool) {
        let was_in_line = self.lock().granted(lock.as_str(), fence);
        if was_in_line && !entered {
            self.quit(lock.clone());
        }
    }

    /// Notifies the waiters of a release whose notification contains these names. Returns a waiter
    /// that takes the turn unless there is another release before. A turn that no one wants any more
    /// is passed on in the background.
    pub(crate) fn notify(
        self: &Arc<Self>,
        lock: LockName,
        names: &str,
    ) -> Option<Substitute<String>> {
        let turn = Turn::of(self.name(), names);
        let notified = self.lock().notify(&lock.as_str().to_owned(), turn);
        match notified {
            Notified::Now(waiters) => waiters.notify_waiters(),
            Notified::Later(substitute) => return Some(substitute),
            Notified::Unwanted => self.pass(lock),
            Notified::Behind => {}
        }
        None
    }

    /// Wakes the waiters that take the turn of others, unless there was another release since.
    pub(crate) fn notify_substitute(&self, substitute: &Substitute<String>) {
        let waiters = self.lock().substitute(substitute).cloned();
        waiters.iter().for_each(Subscription::notify_waiters);
    }

    /// Wakes the waiters of a lock, because earlier releases may have gone unnoticed.
    pub(crate) fn wake(&self, lock: &LockName) {
        let waiters = self.lock().subscription(lock.as_str()).cloned();
        waiters.iter().for_each(Subscription::notify_waiters);
    }

    /// Wakes all waiters, because messages were missed.
    pub(crate) fn wake_all(&self) {
        let waiters: Vec<_> = {
            let mut standings = self.lock();
            standings.set_none_in_line();
            standings.subscriptions().cloned().collect()
        };
        waiters.iter().for_each(Subscription::notify_waiters);
    }

    /// Treats all waiters as not in line, because turns may be lost with the subscriptions.
    pub(crate) fn set_none_in_line(&self) {
        self.lock().set_none_in_line();
    }

    /// Leaves the lines in which no task has waited during `linger`.
    pub(crate) fn sweep(self: &Arc<Self>, linger: Duration) {
        let gone = self.lock().sweep(linger);
        gone.into_iter().for_each(|lock| self.quit(LockName::new(lock)));
    }

    fn quit(self: &Arc<Self>, lock: LockName) {
        let line = self.clone();
        self.in_background(async move {
            let [_, key] = lock.line();
            line.client.command("ZREM", &[&key, line.name()]).await.map(drop)
        });
    }

    fn pass(self: &Arc<Self>, lock: LockName) {
        let line = self.clone();
        self.in_background(async move {
            let [mark, key] = lock.line();
            let keys = [lock.as_str(), &mark, &key];
            line.client.run(&PASS, &keys, &[line.publish]).await.map(drop)
        });
    }

    fn in_background(&self, change: impl Future<Output = Result<(), Failure>> + Send + 'static) {
        self.client.runtime().spawn(async move {
            if let Err(failure) = change.await {
                tracing::debug!(%failure, "the line was not changed");
            }
        });
    }
}
