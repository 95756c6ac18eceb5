//! When to try again what others were faster with.

use std::time::Duration;

use backoff::{ExponentialBackoff, backoff::Backoff};

/// How often a commit that met another one is tried again.
const ROUNDS: usize = 10;

/// The longest first pause, about as long as a commit takes.
const FIRST: Duration = Duration::from_millis(10);

/// The longest pause.
const LONGEST: Duration = Duration::from_millis(320);

/// Gives the pauses between attempts, each drawn from nothing up to twice as much as the one before,
/// so that those who met do not meet again.
///
/// The name for that is "full jitter", from Marc Brooker, "Exponential Backoff And Jitter" (2015).
pub(crate) fn pauses() -> impl Iterator<Item = Duration> + Send {
    // Most operations pause not once: nothing is made before the first pause.
    let mut delays = None;
    std::iter::from_fn(move || delays.get_or_insert_with(delays_from_now).next_backoff())
        .take(ROUNDS)
}

fn delays_from_now() -> ExponentialBackoff {
    // `backoff` draws from current * (1 ± factor): the centre of the range and all of its half-width.
    let mut delays = ExponentialBackoff {
        initial_interval: FIRST / 2,
        max_interval: LONGEST / 2,
        multiplier: 2.0,
        randomization_factor: 1.0,
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    };
    delays.reset();
    delays
}

#[cfg(test)]
mod tests {
    use super::{FIRST, LONGEST, ROUNDS, pauses};

    #[test]
    fn pauses_are_few_and_grow_up_to_a_limit() {
        for _ in 0..100 {
            let drawn: Vec<_> = pauses().collect();
            assert_eq!(drawn.len(), ROUNDS);
            let mut longest = FIRST;
            for pause in drawn {
                assert!(pause <= longest, "{pause:?} is longer than {longest:?}");
                longest = (longest * 2).min(LONGEST);
            }
        }
    }
}
