//! Who asks the store next.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use tokio::sync::{Notify, OwnedMutexGuard, futures::OwnedNotified};

use crate::{DynBackend, LockBackend, LockKey};

/// The waiters of one process, a queue for each key that anybody wants.
///
/// **Invariant:** however many tasks wait for a key, one of them, the head, contends at the store.
/// The others wait in memory, first come, first served.
#[derive(Default)]
pub(crate) struct Queues(Arc<Mutex<HashMap<LockKey, Arc<Queue>>>>);

#[derive(Default)]
struct Queue {
    /// Tokio's mutex is fair: it is the queue. Whatever orders waiters by more than their arrival
    /// takes its place.
    head: Arc<tokio::sync::Mutex<Head>>,
    /// Tells the head that a lock of this process was released.
    freed: Arc<Notify>,
}

/// What the head knows, passed on from head to head.
#[derive(Default)]
pub(crate) struct Head {
    released: Option<Released>,
    /// The subscription that resolved last, kept until the next one is up, so that a connection or
    /// a task that the backend shares behind both does not lapse in between.
    spent: Option<Released>,
}

type Released = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Queues {
    /// Joins the queue for `key`.
    pub(crate) fn join(&self, key: &LockKey) -> Place {
        let queue = self.lock().entry(key.clone()).or_default().clone();
        Place { queues: Self(self.0.clone()), key: key.clone(), queue }
    }

    /// Tells the head of the queue for `key`, if there is one, that it may be free.
    pub(crate) fn freed(&self, key: &LockKey) {
        if let Some(queue) = self.lock().get(key) {
            queue.freed.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LockKey, Arc<Queue>>> {
        // Nothing panics while the map is locked, so it is whole even if poisoned.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in a queue, given up by dropping it.
pub(crate) struct Place {
    queues: Queues,
    key: LockKey,
    queue: Arc<Queue>,
}

impl Place {
    /// Waits until everybody who joined before has been served or has left.
    pub(crate) async fn turn(&self) -> OwnedMutexGuard<Head> {
        self.queue.head.clone().lock_owned().await
    }

    /// Subscribes to releases by this process. One that follows is not missed.
    pub(crate) fn freed(&self) -> Pin<Box<OwnedNotified>> {
        let mut freed = Box::pin(self.queue.freed.clone().notified_owned());
        freed.as_mut().enable();
        freed
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queues = self.queues.lock();
        // The map's reference and this one: nobody else is in the queue, and nobody can join
        // while the map is locked.
        if Arc::strong_count(&self.queue) == 2 {
            queues.remove(&self.key);
        }
    }
}

impl Head {
    /// Tells whether the head was subscribed to releases by other processes before it asked.
    pub(crate) fn is_subscribed(&self) -> bool {
        self.released.is_some()
    }

    /// Subscribes to releases by other processes; one that follows is not missed.
    pub(crate) async fn subscribe(&mut self, backend: &DynBackend, key: &LockKey) {
        let (backend, key) = (backend.clone(), key.clone());
        let mut released: Released = Box::pin(async move { backend.released(&key).await });
        let first = poll_fn(|context| Poll::Ready(released.as_mut().poll(context))).await;
        // One that resolves at its first poll is news like any other: where many fight for a key, one
        // release may follow the other that closely.
        self.released = Some(match first {
            Poll::Pending => released,
            Poll::Ready(()) => Box::pin(std::future::ready(())),
        });
        self.spent = None;
    }

    /// Waits for a release by another process, for ever where there is no subscription.
    pub(crate) async fn released(&mut self) {
        match &mut self.released {
            Some(released) => released.as_mut().await,
            None => std::future::pending().await,
        }
        self.spent = self.released.take();
    }
}
