//! Pauses between attempts that met each other.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// The longest first pause. Each further one may be twice as long.
const FIRST: Duration = Duration::from_millis(2);

const LONGEST: Duration = Duration::from_millis(128);

/// Returns how long to pause after so many failed attempts: exponential backoff with full jitter, as in
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>. Without a pause, those
/// that met meet again.
pub(crate) fn pause(failed: usize) -> Duration {
    let doublings = u32::try_from(failed.saturating_sub(1)).unwrap_or(u32::MAX);
    let limit = FIRST.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST);
    let micros = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
    // Each state has keys of its own, which begin at random.
    Duration::from_micros(RandomState::new().hash_one(failed) % (micros + 1))
}

#[cfg(test)]
mod tests {
    use super::{FIRST, LONGEST, pause};

    #[test]
    fn pauses_grow_to_their_limit_and_differ() {
        for (failed, limit) in [(1, FIRST), (3, FIRST * 4), (9, LONGEST), (usize::MAX, LONGEST)] {
            let pauses: Vec<_> = (0..200).map(|_| pause(failed)).collect();
            assert!(pauses.iter().all(|pause| *pause <= limit), "{failed}: {pauses:?}");
            assert!(pauses.iter().any(|pause| *pause > limit / 2), "{failed}: {pauses:?}");
            assert!(pauses.iter().any(|pause| *pause < limit / 2), "{failed}: {pauses:?}");
        }
    }
}
