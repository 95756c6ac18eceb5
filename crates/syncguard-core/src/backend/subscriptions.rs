use std::{
    borrow::Borrow, collections::HashMap, future::Future, hash::Hash, sync::Arc, time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// How long a key stays subscribed after its last waiter has left: 10 seconds. For
/// [`Subscriptions::sweep`].
///
/// A waiter for a contended lock usually returns soon. It then finds the key still subscribed, and
/// the store receives no request.
pub const LINGER: Duration = Duration::from_secs(10);

/// The keys that tasks of this process wait for. For backends whose store reports releases.
///
/// All waiters of a key share one subscription at the store. How far it has progressed is the state
/// `S` of the key, which the backend defines. Each waiter has a handle, a [`Subscription`].
///
/// This type contains no lock. A backend keeps it in a mutex, together with whatever changes with
/// it, and waits for notifications outside of that. A waiter that leaves drops its handle and needs
/// no lock either; the next [sweep](Self::sweep) finds that it has left.
///
/// # Examples
///
/// ```
/// use std::sync::Mutex;
/// use syncguard_core::backend::{LINGER, Subscriptions};
///
/// enum State {
///     Wanted,
///     Confirmed,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let subscriptions = Mutex::new(Subscriptions::default());
/// let notified = subscriptions.lock().unwrap().subscribe("job", || State::Wanted).notified();
///
/// // The store confirms the subscription. A release may have been missed until then.
/// let to_notify = subscriptions.lock().unwrap().get_mut("job").map(|job| {
///     job.state = State::Confirmed;
///     job.subscription().clone()
/// });
/// if let Some(subscription) = to_notify {
///     subscription.notify_waiters();
/// }
/// notified.await;
///
/// // From time to time:
/// let swept: Vec<(&str, State)> = subscriptions.lock().unwrap().sweep(LINGER);
/// for (key, state) in swept {
///     // Unsubscribe from the key at the store.
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Subscriptions<K, S>(HashMap<K, SubscribedKey<S>>);

/// A key that has a waiter, or had one a short time ago.
#[derive(Debug)]
pub struct SubscribedKey<S> {
    /// The state of the subscription at the store.
    pub state: S,
    subscription: Subscription,
    /// The time of the first sweep that found no waiter.
    idle_since: Option<Instant>,
}

/// A handle to the subscription to a key, which all its waiters share.
///
/// The key has a waiter as long as a handle outside of [`Subscriptions`], or a
/// [future](Self::notified) of one, is alive.
#[derive(Clone, Debug)]
#[must_use = "a key without handles and futures has no waiter, and is swept"]
pub struct Subscription(Arc<Notify>);

impl<K, S> Default for Subscriptions<K, S> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash, S> Subscriptions<K, S> {
    /// Subscribes a waiter to the releases of `key`. A key that is not here yet starts in the state
    /// that `initial` returns; `initial` is not called otherwise.
    pub fn subscribe(&mut self, key: K, initial: impl FnOnce() -> S) -> Subscription {
        let entry = self.0.entry(key).or_insert_with(|| SubscribedKey::new(initial()));
        entry.idle_since = None;
        entry.subscription.clone()
    }

    /// Returns the entry of `key`, unless the key has not been subscribed to or has been swept.
    pub fn get<Q>(&self, key: &Q) -> Option<&SubscribedKey<S>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.0.get(key)
    }

    /// Returns the entry of `key` for changing its state, unless the key has not been subscribed to
    /// or has been swept.
    pub fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut SubscribedKey<S>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.0.get_mut(key)
    }

    /// Returns all keys, in arbitrary order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &SubscribedKey<S>)> {
        self.0.iter()
    }

    /// Returns all keys, for changing their states, in arbitrary order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut SubscribedKey<S>)> {
        self.0.iter_mut()
    }

    /// Returns whether there are no keys: none has a waiter, and none lingers.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes the keys that have had no waiter for `linger`, and returns them with their states.
    /// To be called at regular intervals.
    ///
    /// The time counts from the first sweep that finds no waiter, and is thereby rounded up to the
    /// interval of the sweeps: a key stays for at least `linger` after its last waiter has left,
    /// and for at most `linger` and two intervals. A waiter that [subscribes](Self::subscribe)
    /// resets it.
    ///
    /// **Guarantees** that no key that has a waiter is removed. Visits every key.
    pub fn sweep(&mut self, linger: Duration) -> Vec<(K, S)> {
        let now = Instant::now();
        let swept =
            self.0.extract_if(|_, entry| entry.idle_time(now).is_some_and(|idle| idle >= linger));
        swept.map(|(key, entry)| (key, entry.state)).collect()
    }
}

impl<S> SubscribedKey<S> {
    fn new(state: S) -> Self {
        Self { state, subscription: Subscription(Arc::default()), idle_since: None }
    }

    /// Returns the subscription that the waiters share, for notifying them.
    ///
    /// A clone can notify them after the mutex is unlocked. Until it is dropped, it counts as a
    /// waiter.
    pub fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    /// Returns whether the key has a waiter.
    pub fn has_waiter(&self) -> bool {
        Arc::strong_count(&self.subscription.0) > 1
    }

    /// Returns for how long sweeps have found no waiter, or `None` if there is one.
    fn idle_time(&mut self, now: Instant) -> Option<Duration> {
        // A handle is cloned from this one, which the caller has exclusively, or from another that
        // is alive. So once this is the only one, no other appears.
        if self.has_waiter() {
            self.idle_since = None;
            return None;
        }
        Some(now.duration_since(*self.idle_since.get_or_insert(now)))
    }
}

impl Subscription {
    /// Returns a future that resolves at the next [notification](Self::notify_waiters).
    ///
    /// **Guarantees** that every notification after this call counts, even one before the future is
    /// first polled. Earlier ones do not count.
    ///
    /// The future counts as a waiter, with or without this handle.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes no notification from other waiters. A notification that it has not
    /// returned is lost with it.
    pub fn notified(&self) -> impl Future<Output = ()> + Send + Sync + use<> {
        // It receives calls of `notify_waiters` from its creation, as tokio guarantees.
        self.0.clone().notified_owned()
    }

    /// Notifies all futures of the key that exist now. Later ones are not affected.
    ///
    /// This calls their wakers, which run code of the executor. With many waiters, or with an
    /// unknown executor, call it after the mutex is unlocked.
    pub fn notify_waiters(&self) {
        self.0.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Future, poll_fn},
        pin::pin,
        task::Poll,
        time::Duration,
    };

    use tokio::time::advance;

    use super::{LINGER, Subscription, Subscriptions};

    const MOMENT: Duration = Duration::from_millis(1);

    #[derive(Default)]
    struct Keys(Subscriptions<&'static str, u8>);

    impl Keys {
        fn subscribe(&mut self, key: &'static str) -> Subscription {
            self.0.subscribe(key, || 7)
        }

        /// Subscribes to a key that is still here.
        fn return_to(&mut self, key: &'static str) -> Subscription {
            self.0.subscribe(key, || unreachable!("the key is still here"))
        }

        fn notify(&self, key: &str) {
            self.0.get(key).unwrap().subscription().notify_waiters();
        }

        fn sweep(&mut self) -> Vec<(&'static str, u8)> {
            self.0.sweep(LINGER)
        }

        /// Asserts that the waiters of all keys have just left.
        async fn assert_just_left(&mut self) {
            assert_eq!(self.sweep(), []);
            advance(LINGER - MOMENT).await;
            assert_eq!(self.sweep(), []);
            advance(MOMENT).await;
            assert!(!self.sweep().is_empty() && self.0.is_empty());
        }
    }

    async fn is_ready(future: impl Future<Output = ()>) -> bool {
        let mut future = pin!(future);
        poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_lingers_after_its_last_waiter_from_the_first_sweep_that_finds_none() {
        let mut keys = Keys::default();
        let both = [keys.subscribe("a"), keys.return_to("a")];
        for waiter in both {
            assert_eq!(keys.sweep(), []);
            advance(LINGER).await;
            assert_eq!(keys.sweep(), [], "it has a waiter");
            drop(waiter);
        }
        advance(LINGER).await;
        keys.assert_just_left().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_that_returned_between_two_sweeps_makes_the_key_linger_anew() {
        let mut keys = Keys::default();
        drop(keys.subscribe("a"));
        assert_eq!(keys.sweep(), []);
        advance(LINGER).await;
        let waiter = keys.return_to("a");
        advance(LINGER).await;
        drop(waiter);
        keys.assert_just_left().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_clone_of_a_handle_counts_as_a_waiter() {
        let mut keys = Keys::default();
        drop(keys.subscribe("a"));
        assert_eq!(keys.sweep(), []);
        let clone = keys.0.get("a").unwrap().subscription().clone();
        advance(LINGER).await;
        assert_eq!(keys.sweep(), []);
        drop(clone);
        keys.assert_just_left().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_future_counts_as_a_waiter_without_its_handle() {
        let mut keys = Keys::default();
        let notified = keys.subscribe("a").notified();
        assert_eq!(keys.sweep(), []);
        advance(LINGER).await;
        assert_eq!(keys.sweep(), []);
        keys.notify("a");
        assert!(is_ready(notified).await);
        keys.assert_just_left().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_returns_what_it_removes_and_leaves_the_other_keys() {
        let mut keys = Keys::default();
        let waiter = keys.subscribe("kept");
        drop(keys.subscribe("left"));
        keys.0.get_mut("left").unwrap().state = 9;
        assert_eq!(keys.sweep(), []);
        advance(LINGER).await;
        assert_eq!(keys.sweep(), [("left", 9)]);
        assert!(keys.0.get("left").is_none() && keys.0.get("kept").is_some());
        drop(waiter);
        assert_eq!(keys.0.sweep(Duration::ZERO), [("kept", 7)], "nothing lingers for no time");
    }

    #[tokio::test]
    async fn a_notification_reaches_the_futures_of_its_key_that_exist_polled_or_not() {
        let mut keys = Keys::default();
        let (one, other) = (keys.subscribe("a"), keys.subscribe("b"));
        let (mut polled, unpolled) = (pin!(one.notified()), keys.return_to("a").notified());
        assert!(!is_ready(polled.as_mut()).await);
        let of_other = other.notified();
        keys.notify("a");
        let later = one.notified();
        assert!(is_ready(polled).await && is_ready(unpolled).await);
        assert!(!is_ready(of_other).await && !is_ready(later).await);
    }
}
