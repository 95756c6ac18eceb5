//! The keys that were seen held.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How many keys are remembered. More of them are not fought over at a time by one process.
const LIMIT: usize = 1_024;

/// Until when keys that were found held will stay so, unless somebody gives them up.
///
/// To be ready to grant a key, the server sets up two writes, which costs more than to find out that
/// the key is held. So who comes back to a key that was seen held looks first. What is remembered
/// decides nothing else: where it is out of date, an attempt costs a second round trip. It is forgotten
/// when a release is heard of, so that whoever is woken by one asks at once.
#[derive(Default)]
pub(crate) struct Sightings(Mutex<HashMap<String, Instant>>);

impl Sightings {
    pub(crate) fn note(&self, key: &str, free_in: Duration) {
        let mut keys = self.lock();
        let now = Instant::now();
        if keys.len() >= LIMIT {
            keys.retain(|_, until| *until > now);
        }
        // A ttl that ends beyond what the clock can tell is not worth remembering.
        if let Some(until) = now.checked_add(free_in)
            && keys.len() < LIMIT
        {
            keys.insert(key.to_owned(), until);
        }
    }

    pub(crate) fn forget(&self, key: &str) {
        self.lock().remove(key);
    }

    pub(crate) fn is_held(&self, key: &str) -> bool {
        self.lock().get(key).is_some_and(|until| *until > Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        // Nothing panics while it is locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LIMIT, Sightings};

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn a_key_is_held_until_it_is_forgotten_or_runs_out() {
        let sightings = Sightings::default();
        assert!(!sightings.is_held("a"));
        sightings.note("a", LONG);
        sightings.note("b", Duration::ZERO);
        sightings.note("c", Duration::MAX);
        assert!(["a", "b", "c"].map(|key| sightings.is_held(key)) == [true, false, false]);
        sightings.forget("a");
        assert!(!sightings.is_held("a"));
    }

    #[test]
    fn only_so_many_keys_are_remembered_and_those_that_ran_out_make_room() {
        let sightings = Sightings::default();
        for key in 0..LIMIT {
            sightings.note(&key.to_string(), if key == 0 { Duration::ZERO } else { LONG });
        }
        sightings.note("fits", LONG);
        sightings.note("one too many", LONG);
        assert!(sightings.is_held("fits") && !sightings.is_held("one too many"));
        assert_eq!(sightings.lock().len(), LIMIT);
    }
}
