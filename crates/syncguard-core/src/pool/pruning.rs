use std::sync::atomic::{AtomicU32, Ordering};

use crate::LockId;

/// The number of releases and abandons between two prunings.
const PRUNING_INTERVAL: u32 = 64;

/// Decides when a backend removes obsolete records, a few at a time, and where it begins.
///
/// A backend counts each release and each abandon, and prunes in the background. A pruning examines
/// at most [`BATCH`](Self::BATCH) records: those whose ids follow the released one. Ids are random,
/// so in time prunings reach all records. The record with the lowest id follows no other one, so
/// every second pruning begins at the lowest id.
#[derive(Debug, Default)]
pub struct Pruning(AtomicU32);

impl Pruning {
    /// The maximum number of records of a kind that one pruning examines.
    pub const BATCH: i64 = 64;

    /// Counts a release or an abandon. If a pruning is due, returns the id after which it begins,
    /// or an empty string to begin at the lowest id.
    pub fn due<'id>(&self, lock_id: &'id LockId) -> Option<&'id str> {
        let count = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        let from = if count.is_multiple_of(2 * PRUNING_INTERVAL) { "" } else { lock_id.as_str() };
        count.is_multiple_of(PRUNING_INTERVAL).then_some(from)
    }
}

#[cfg(test)]
mod tests {
    use super::{PRUNING_INTERVAL, Pruning};
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
}
