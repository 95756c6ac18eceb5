//! Running again what the server undid.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    time::Duration,
};

use tokio::time::sleep;

use crate::error::{Effect, Failure};

/// How often a statement that the server undid, to get out of a conflict, is run again.
const MAX_RERUNS: u32 = 8;

/// The longest pause before the first rerun. It doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(4);

const MAX_PAUSE: Duration = Duration::from_millis(128);

/// The conflicts of one request.
///
/// The pauses have full jitter: those who met each other once would meet again if they all ran again
/// at once, or after the same pause.
#[derive(Debug, Default)]
pub(crate) struct Conflicts {
    count: u32,
    doubtful: bool,
}

impl Conflicts {
    /// Returns whether a failure is a conflict after which the statement is run again.
    pub(crate) fn may_run_again(&self, failure: &Failure) -> bool {
        failure.is_conflict() && self.count < MAX_RERUNS
    }

    /// Waits before the next run.
    pub(crate) async fn pause(&mut self, failure: &Failure) {
        // Of statements that are sent together, an earlier one may have been carried out.
        self.doubtful |= failure.effect() == Effect::Unknown;
        let longest = (FIRST_PAUSE * 2_u32.pow(self.count)).min(MAX_PAUSE);
        self.count += 1;
        sleep(longest.mul_f64(random())).await;
    }

    /// Makes a failure say what the runs before it may have changed.
    pub(crate) fn settle(&self, failure: Failure) -> Failure {
        if self.doubtful { failure.doubtful() } else { failure }
    }
}

/// Draws a number from 0 to 1. Each new state of the standard library's hasher has keys of its own.
fn random() -> f64 {
    let number = RandomState::new().build_hasher().finish();
    // The 53 bits of a fraction are all that a float holds.
    (number >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::random;

    #[test]
    fn random_numbers_are_spread_from_0_to_1() {
        let numbers: Vec<f64> = (0..1_000).map(|_| random()).collect();
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        for tenth in 0..10 {
            let from = f64::from(tenth) / 10.0;
            let within = numbers.iter().filter(|number| (from..from + 0.1).contains(*number));
            assert!(within.count() > 40, "few from {from}");
        }
    }
}
