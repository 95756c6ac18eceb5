use std::sync::atomic::{AtomicU32, Ordering};

use crate::LockId;

/// How many releases and abandons lie between two prunings.
const INTERVAL: u32 = 64;

/// Decides when a backend removes records that no one needs any more, a few at a time, and where it
/// looks for them.
///
/// A backend counts its releases and abandons, after each, and prunes in the background. The
/// records that it looks at are at most [`BATCH`](Self::BATCH), those with the ids next to one that
/// was released. Ids are random, so in time it reaches all records. One with no other id below it
/// is found from the least id, where every second pruning begins.
#[derive(Debug, Default)]
pub struct Pruning(AtomicU32);

impl Pruning {
    /// How many records of a kind one pruning looks at.
    pub const BATCH: i64 = 64;

    /// Counts a release or an abandon. Returns the id behind which to begin if it is time to prune, empty for the
    /// least.
    pub fn due<'id>(&self, lock_id: &'id LockId) -> Option<&'id str> {
        let count = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        let from = if count.is_multiple_of(2 * INTERVAL) { "" } else { lock_id.as_str() };
        count.is_multiple_of(INTERVAL).then_some(from)
    }
}

#[cfg(test)]
mod tests {
    use super::{INTERVAL, Pruning};
    use crate::LockId;

    #[test]
    fn every_64th_release_prunes_by_turns_from_its_id_and_from_the_least() {
        let (pruning, id) = (Pruning::default(), LockId::mint().unwrap());
        let due: Vec<_> = (1..=4 * INTERVAL).map(|_| pruning.due(&id)).collect();
        for (index, from) in due.into_iter().enumerate() {
            let expected = match index + 1 {
                64 | 192 => Some(id.as_str()),
                128 | 256 => Some(""),
                _ => None,
            };
            assert_eq!(from, expected, "{index}");
        }
    }
}
