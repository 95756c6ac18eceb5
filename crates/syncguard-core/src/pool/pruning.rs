use std::sync::atomic::{AtomicU32, Ordering};

use crate::LockId;

/// The number of releases and abandons between two prunings.
const PRUNING_INTERVAL: u32 = 64;

/// For how many releases a claim counts. Most claims end with their ttl, so that only a pruning
/// removes their records. Every second pruning examines records at random. With four, those examine
/// twice as many records as claims are made, so in time about half of what they examine is obsolete:
/// no more records than are live stay behind.
const CLAIM_WEIGHT: u32 = 4;

/// Decides when a backend removes obsolete records, a few at a time, and where it begins.
///
/// A backend counts each release, each abandon and each claim, and prunes in the background. A
/// pruning examines at most [`BATCH`](Self::BATCH) records: those whose ids follow the one that was
/// released. Ids are random, so in time prunings reach all records. The record with the lowest id
/// follows no other one, so every second pruning begins at the lowest id.
#[derive(Debug, Default)]
pub struct Pruning(AtomicU32);

impl Pruning {
    /// The maximum number of records of a kind that one pruning examines.
    pub const BATCH: i64 = 64;

    /// Counts a release or an abandon. If a pruning is due, returns the id after which it begins,
    /// or an empty string to begin at the lowest id.
    pub fn due<'id>(&self, lock_id: &'id LockId) -> Option<&'id str> {
        self.count(1, lock_id)
    }

    /// Counts a grant [without a counter](crate::backend::AcquireRequest::creates_counter), which may
    /// end without a release. Otherwise as [`due`](Self::due).
    pub fn due_after_claim<'id>(&self, lock_id: &'id LockId) -> Option<&'id str> {
        self.count(CLAIM_WEIGHT, lock_id)
    }

    fn count<'id>(&self, weight: u32, lock_id: &'id LockId) -> Option<&'id str> {
        let before = self.0.fetch_add(weight, Ordering::Relaxed);
        let prunings = before.wrapping_add(weight) / PRUNING_INTERVAL;
        let from = if prunings.is_multiple_of(2) { "" } else { lock_id.as_str() };
        (prunings != before / PRUNING_INTERVAL).then_some(from)
    }
}

#[cfg(test)]
mod tests {
    use super::{CLAIM_WEIGHT, PRUNING_INTERVAL, Pruning};
    use crate::LockId;

    #[test]
    fn every_64th_release_prunes_alternately_from_its_id_and_from_the_lowest_id() {
        let (pruning, id) = (Pruning::default(), LockId::mint().unwrap());
        let due: Vec<_> = (1..=4 * PRUNING_INTERVAL).map(|_| pruning.due(&id)).collect();
        for (index, from) in due.into_iter().enumerate() {
            let expected = match index + 1 {
                64 | 192 => Some(id.as_str()),
                128 | 256 => Some(""),
                _ => None,
            };
            assert_eq!(from, expected, "{index}");
        }
    }

    #[test]
    fn a_claim_counts_for_several_releases() {
        let (pruning, id) = (Pruning::default(), LockId::mint().unwrap());
        assert!(pruning.due(&id).is_none());
        let claims = || (0..PRUNING_INTERVAL / CLAIM_WEIGHT).map(|_| pruning.due_after_claim(&id));
        assert_eq!(claims().flatten().collect::<Vec<_>>(), [id.as_str()]);
        assert_eq!(claims().flatten().collect::<Vec<_>>(), [""]);
    }
}
