//! The keys that were found held.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use syncguard_core::{Fence, Holder};

/// The maximum number of cached keys. One process does not contend for more of them at a time.
const MAX_KEYS: usize = 1_024;

/// How long a key counts as one that changes hands unseen, after a change was observed.
const UNSEEN_TTL: Duration = Duration::from_secs(10);

/// The minimum time between two attempts of this process that wait at the head of a key's queue.
///
/// A key is idle from its release until the client at the head of the queue checks it. Therefore
/// only some of the attempts wait there. With a peer that always holds the key, they do so for a
/// quarter of the time.
const MIN_HEAD_INTERVAL: Duration = Duration::from_millis(50);

/// Caches until when keys that were found held stay held unless they are released, and which of
/// them change hands unseen.
///
/// To be ready to grant a key, the server sets up two writes, which costs more than finding out
/// that the key is held. Therefore a client that retries a key that was held sends a lookup first.
///
/// A key changes hands unseen if a client that notifies no one is found to hold it under another
/// fence than the one before, and in between no release was notified and the key was not seen free.
/// Lookups are too slow then.
///
/// The cache only selects the strategy of an attempt: if an entry is out of date, the attempt costs
/// a second round trip. A notification of a release removes the holder of the key, so that a waiter
/// that it wakes acquires at once.
#[derive(Default)]
pub(crate) struct HolderCache(Mutex<HashMap<String, CachedHolder>>);

/// What is cached about a key.
#[derive(Clone, Copy, Default)]
struct CachedHolder {
    /// The time until which the holder has the key, unless it releases or extends it.
    held_until: Option<Instant>,
    /// The fence of a holder that notifies no one.
    silent: Option<Fence>,
    /// The time until which the key counts as one that changes hands unseen.
    unseen_until: Option<Instant>,
    /// The earliest time of the next attempt that waits at the head of the queue.
    next_head_at: Option<Instant>,
}

/// How to acquire a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// Sends the acquire at once.
    Direct,
    /// Sends a lookup first, because the key may still be held.
    LookupFirst,
    /// Queues with the peers among which the key changes hands.
    Queue,
    /// Sends a lookup first, and queues if the key is free.
    LookupThenQueue,
    /// Waits at the head of the queue for a moment, and then queues.
    WaitAtHead,
}

impl Strategy {
    pub(crate) fn looks_up_first(self) -> bool {
        matches!(self, Self::LookupFirst | Self::LookupThenQueue)
    }

    pub(crate) fn queues(self) -> bool {
        matches!(self, Self::Queue | Self::LookupThenQueue | Self::WaitAtHead)
    }
}

impl CachedHolder {
    fn is_held(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| until > now)
    }

    fn is_unseen(&self, now: Instant) -> bool {
        self.unseen_until.is_some_and(|until| until > now)
    }

    /// Returns whether an attempt may wait at the head of the queue for the release of a holder
    /// that notifies no one.
    fn may_wait_at_head(&self, now: Instant) -> bool {
        self.silent.is_some() && self.next_head_at.is_none_or(|until| until <= now)
    }
}

impl HolderCache {
    /// Caches the holder of a key.
    pub(crate) fn record(&self, key: &str, holder: &Holder) {
        let mut keys = self.lock();
        let now = Instant::now();
        if keys.len() >= MAX_KEYS {
            keys.retain(|_, cached| cached.is_held(now) || cached.is_unseen(now));
        }
        if keys.len() >= MAX_KEYS && !keys.contains_key(key) {
            return;
        }
        let cached = keys.entry(key.to_owned()).or_default();
        let silent = holder.fence.filter(|_| holder.silent);
        if silent.is_some() && cached.silent.is_some() && silent != cached.silent {
            cached.unseen_until = now.checked_add(UNSEEN_TTL);
        }
        cached.silent = silent;
        // An expiry beyond the range of the clock is not cached.
        cached.held_until = holder.free_in.and_then(|free_in| now.checked_add(free_in));
    }

    /// Removes the holder of a key that was released, or granted to this process.
    pub(crate) fn forget(&self, key: &str) {
        let mut keys = self.lock();
        let Some(cached) = keys.get_mut(key) else { return };
        (cached.held_until, cached.silent) = (None, None);
        if !cached.is_unseen(Instant::now()) {
            keys.remove(key);
        }
    }

    /// Returns the strategy for an attempt that is made now.
    pub(crate) fn strategy(&self, key: &str) -> Strategy {
        let now = Instant::now();
        let mut keys = self.lock();
        let Some(cached) = keys.get_mut(key) else { return Strategy::Direct };
        match (cached.is_held(now), cached.is_unseen(now)) {
            (false, false) => Strategy::Direct,
            (true, false) => Strategy::LookupFirst,
            (false, true) => Strategy::Queue,
            (true, true) if cached.may_wait_at_head(now) => {
                cached.next_head_at = now.checked_add(MIN_HEAD_INTERVAL);
                Strategy::WaitAtHead
            }
            (true, true) => Strategy::LookupThenQueue,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, CachedHolder>> {
        // Nothing panics while it is locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use syncguard_core::{Fence, Holder};

    use super::{HolderCache, MAX_KEYS, Strategy};

    const LONG: Duration = Duration::from_secs(600);

    fn holder(free_in: Duration) -> Holder {
        let mut holder = Holder::default();
        holder.free_in = Some(free_in);
        holder
    }

    fn silent(fence: u64) -> Holder {
        let mut holder = holder(LONG).silent();
        holder.fence = Fence::new(fence).ok();
        holder
    }

    #[test]
    fn a_key_is_held_until_it_is_forgotten_or_expires() {
        let cache = HolderCache::default();
        assert_eq!(cache.strategy("a"), Strategy::Direct);
        cache.record("a", &holder(LONG));
        cache.record("b", &holder(Duration::ZERO));
        cache.record("c", &holder(Duration::MAX));
        assert_eq!(
            ["a", "b", "c"].map(|key| cache.strategy(key)),
            [Strategy::LookupFirst, Strategy::Direct, Strategy::Direct]
        );
        cache.forget("a");
        assert_eq!(cache.strategy("a"), Strategy::Direct);
    }

    #[test]
    fn the_number_of_keys_is_limited_and_expired_keys_make_room() {
        let cache = HolderCache::default();
        for key in 0..MAX_KEYS {
            let free_in = if key == 0 { Duration::ZERO } else { LONG };
            cache.record(&key.to_string(), &holder(free_in));
        }
        cache.record("fits", &holder(LONG));
        cache.record("one too many", &holder(LONG));
        assert_eq!(cache.strategy("fits"), Strategy::LookupFirst);
        assert_eq!(cache.strategy("one too many"), Strategy::Direct);
        assert_eq!(cache.lock().len(), MAX_KEYS);
    }

    #[test]
    fn attempts_queue_for_a_key_that_changed_hands_between_two_lookups() {
        let cache = HolderCache::default();
        cache.record("a", &silent(1));
        cache.record("a", &silent(1));
        assert_eq!(cache.strategy("a"), Strategy::LookupFirst, "one client keeps it");
        cache.record("a", &silent(2));
        assert_eq!(cache.strategy("a"), Strategy::WaitAtHead);
        assert_eq!(cache.strategy("a"), Strategy::LookupThenQueue, "one has just stood there");
        cache.record("a", &holder(LONG));
        cache.lock().get_mut("a").unwrap().next_head_at = None;
        assert_eq!(cache.strategy("a"), Strategy::LookupThenQueue, "its release will be heard of");
        cache.forget("a");
        assert_eq!(cache.strategy("a"), Strategy::Queue, "the peers are still there");
    }

    #[test]
    fn a_key_whose_release_or_grant_we_saw_in_between_did_not_change_hands_unseen() {
        let cache = HolderCache::default();
        cache.record("a", &silent(1));
        cache.forget("a");
        cache.record("a", &silent(2));
        assert_eq!(cache.strategy("a"), Strategy::LookupFirst);
        cache.record("a", &holder(LONG));
        cache.record("a", &silent(4));
        assert_eq!(cache.strategy("a"), Strategy::LookupFirst);
    }
}
