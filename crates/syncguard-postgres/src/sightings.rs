//! The keys that were seen held.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use syncguard_core::{Fence, Holder};

/// How many keys are remembered. One process does not contend for more of them at a time.
const LIMIT: usize = 1_024;

/// How long a key counts as one that changes hands unseen, after that was observed.
const UNSEEN: Duration = Duration::from_secs(10);

/// The minimum time between two attempts of this process that stand at the head of a key's queue.
///
/// A key is idle from its release until the client at the head of the queue looks. Therefore only a
/// part of the attempts stand there; beside a peer that always has the key, it is a quarter of the
/// time.
const BETWEEN_STANDS: Duration = Duration::from_millis(50);

/// Remembers until when keys that were found held stay held unless they are released, and which of
/// them change hands unseen.
///
/// To be ready to grant a key, the server sets up two writes, which costs more than finding out
/// that the key is held. Therefore a client that comes back to a key that was seen held looks
/// first.
///
/// A key changes hands unseen if a client that notifies no one is found to hold it under another
/// fence than the one before, and in between no release was notified and the key was not seen free.
/// Lookups are too slow then.
///
/// What is remembered only decides how to ask: if it is out of date, an attempt costs a second
/// round trip. A notification of a release clears the record that the key is held, so that a waiter
/// that it wakes asks at once.
#[derive(Default)]
pub(crate) struct Sightings(Mutex<HashMap<String, Sighting>>);

/// What is remembered of a key.
#[derive(Clone, Copy, Default)]
struct Sighting {
    /// The time until which the holder has the key, unless it releases or extends it.
    held_until: Option<Instant>,
    /// The fence of a holder that notifies no one.
    silent: Option<Fence>,
    /// The time until which the key counts as one that changes hands unseen.
    unseen_until: Option<Instant>,
    /// The time until which no attempt stands at the head of the queue.
    stood_until: Option<Instant>,
}

/// How to ask for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// At once.
    Directly,
    /// After checking whether it is still held.
    AfterALook,
    /// By queueing with the peers among which it changes hands.
    Queued,
    /// In the same way, after checking whether it is still held.
    QueuedAfterALook,
    /// In the same way, standing at the head for a moment.
    Standing,
}

impl Way {
    pub(crate) fn looks_first(self) -> bool {
        matches!(self, Self::AfterALook | Self::QueuedAfterALook)
    }

    pub(crate) fn queues(self) -> bool {
        matches!(self, Self::Queued | Self::QueuedAfterALook | Self::Standing)
    }
}

impl Sighting {
    fn is_held(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| until > now)
    }

    fn is_unseen(&self, now: Instant) -> bool {
        self.unseen_until.is_some_and(|until| until > now)
    }

    /// Returns whether to wait at the head of the queue for the holder's release, of which no one
    /// is notified.
    fn may_stand(&self, now: Instant) -> bool {
        self.silent.is_some() && self.stood_until.is_none_or(|until| until <= now)
    }
}

impl Sightings {
    /// Remembers the holder of a key.
    pub(crate) fn note(&self, key: &str, holder: &Holder) {
        let mut keys = self.lock();
        let now = Instant::now();
        if keys.len() >= LIMIT {
            keys.retain(|_, sighting| sighting.is_held(now) || sighting.is_unseen(now));
        }
        if keys.len() >= LIMIT && !keys.contains_key(key) {
            return;
        }
        let sighting = keys.entry(key.to_owned()).or_default();
        let silent = holder.fence.filter(|_| holder.silent);
        if silent.is_some() && sighting.silent.is_some() && silent != sighting.silent {
            sighting.unseen_until = now.checked_add(UNSEEN);
        }
        sighting.silent = silent;
        // A ttl that ends beyond the range of the clock is not worth remembering.
        sighting.held_until = holder.free_in.and_then(|free_in| now.checked_add(free_in));
    }

    /// Forgets the holder of a key, which was released, or granted to this process.
    pub(crate) fn forget(&self, key: &str) {
        let mut keys = self.lock();
        let Some(sighting) = keys.get_mut(key) else { return };
        (sighting.held_until, sighting.silent) = (None, None);
        if !sighting.is_unseen(Instant::now()) {
            keys.remove(key);
        }
    }

    /// Returns how to ask for a key, for an attempt that is made at once.
    pub(crate) fn way(&self, key: &str) -> Way {
        let now = Instant::now();
        let mut keys = self.lock();
        let Some(sighting) = keys.get_mut(key) else { return Way::Directly };
        match (sighting.is_held(now), sighting.is_unseen(now)) {
            (false, false) => Way::Directly,
            (true, false) => Way::AfterALook,
            (false, true) => Way::Queued,
            (true, true) if sighting.may_stand(now) => {
                sighting.stood_until = now.checked_add(BETWEEN_STANDS);
                Way::Standing
            }
            (true, true) => Way::QueuedAfterALook,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Sighting>> {
        // Nothing panics while it is locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use syncguard_core::{Fence, Holder};

    use super::{LIMIT, Sightings, Way};

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
    fn a_key_is_held_until_it_is_forgotten_or_runs_out() {
        let sightings = Sightings::default();
        assert_eq!(sightings.way("a"), Way::Directly);
        sightings.note("a", &holder(LONG));
        sightings.note("b", &holder(Duration::ZERO));
        sightings.note("c", &holder(Duration::MAX));
        assert_eq!(
            ["a", "b", "c"].map(|key| sightings.way(key)),
            [Way::AfterALook, Way::Directly, Way::Directly]
        );
        sightings.forget("a");
        assert_eq!(sightings.way("a"), Way::Directly);
    }

    #[test]
    fn only_so_many_keys_are_remembered_and_those_that_ran_out_make_room() {
        let sightings = Sightings::default();
        for key in 0..LIMIT {
            let free_in = if key == 0 { Duration::ZERO } else { LONG };
            sightings.note(&key.to_string(), &holder(free_in));
        }
        sightings.note("fits", &holder(LONG));
        sightings.note("one too many", &holder(LONG));
        assert_eq!(sightings.way("fits"), Way::AfterALook);
        assert_eq!(sightings.way("one too many"), Way::Directly);
        assert_eq!(sightings.lock().len(), LIMIT);
    }

    #[test]
    fn attempts_queue_where_a_key_changed_hands_between_two_looks() {
        let sightings = Sightings::default();
        sightings.note("a", &silent(1));
        sightings.note("a", &silent(1));
        assert_eq!(sightings.way("a"), Way::AfterALook, "one client keeps it");
        sightings.note("a", &silent(2));
        assert_eq!(sightings.way("a"), Way::Standing);
        assert_eq!(sightings.way("a"), Way::QueuedAfterALook, "one has just stood there");
        sightings.note("a", &holder(LONG));
        sightings.lock().get_mut("a").unwrap().stood_until = None;
        assert_eq!(sightings.way("a"), Way::QueuedAfterALook, "its release will be heard of");
        sightings.forget("a");
        assert_eq!(sightings.way("a"), Way::Queued, "the peers are still there");
    }

    #[test]
    fn a_key_that_was_released_or_had_by_us_in_between_did_not_change_hands_unseen() {
        let sightings = Sightings::default();
        sightings.note("a", &silent(1));
        sightings.forget("a");
        sightings.note("a", &silent(2));
        assert_eq!(sightings.way("a"), Way::AfterALook);
        sightings.note("a", &holder(LONG));
        sightings.note("a", &silent(4));
        assert_eq!(sightings.way("a"), Way::AfterALook);
    }
}
