//! Fairness between the waiters of this process and those of other processes.

use std::time::Duration;

use tokio::time::Instant;

use crate::{Capabilities, Fence, Fencing, WakeUp};

/// How long the waiters of one process may hand a key over among themselves before they pause.
const SHORTEST_TURN: Duration = Duration::from_millis(250);

/// The longest such time, after pauses that no other process used. It bounds how long a waiter of
/// another process is kept out.
const LONGEST_TURN: Duration = Duration::from_millis(750);

/// The shortest pause: a waiter in another process has to be woken and to send a request.
const NOTIFIED_PAUSE: Duration = Duration::from_millis(10);

/// The same if the backends of other processes watch the store, which takes them a few milliseconds
/// more.
const WATCHED_PAUSE: Duration = Duration::from_millis(20);

/// The longest pause, however slow the store is.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Returns the shortest pause, or `None` if no other process can use the store, so that there is no
/// waiter to let in.
pub(crate) fn least_pause(capabilities: &Capabilities) -> Option<Duration> {
    match (capabilities.fencing, capabilities.wake_up) {
        (Fencing::Process, _) => None,
        (_, WakeUp::Watched) => Some(WATCHED_PAUSE),
        (_, WakeUp::Notified | WakeUp::None) => Some(NOTIFIED_PAUSE),
    }
}

/// How the waiters of one process share a key with other processes.
///
/// A process notices a release by its own tasks before any other process does, and its next waiter
/// asks immediately. With enough waiters it never gives up the key. So after a turn of
/// [`SHORTEST_TURN`] the next waiter leaves the free key alone for a moment, and a waiter
/// elsewhere, woken by the same release, can acquire it. Fences show whether one did: they count
/// every grant of a key, so a gap is a grant elsewhere. Without a gap, the pause was unused, and
/// the next turn is twice as long. If another process was met, the same applies to a single task
/// that acquires the key repeatedly, until a pause after the longest turn was unused.
#[derive(Debug)]
pub(crate) struct Possession {
    /// The fence of the last grant to this process, and when its turn began.
    turn: Option<(Fence, Instant)>,
    length: Duration,
    paused: bool,
    /// Whether a task of this process holds the key. A pause would overlap with its own hold.
    held: bool,
    round_trip: Duration,
    /// Whether another process was met.
    contested: bool,
}

impl Default for Possession {
    fn default() -> Self {
        Self {
            turn: None,
            length: SHORTEST_TURN,
            paused: false,
            held: false,
            round_trip: Duration::ZERO,
            contested: false,
        }
    }
}

impl Possession {
    /// Records a grant to this process.
    pub(crate) fn granted(&mut self, fence: Fence, now: Instant, round_trip: Duration) {
        let began = match self.turn {
            Some((last, _)) if last.next() != Some(fence) => {
                (self.length, self.contested) = (SHORTEST_TURN, true);
                now
            }
            Some(_) if self.paused => {
                self.contested &= self.length < LONGEST_TURN;
                self.length = (self.length * 2).min(LONGEST_TURN);
                now
            }
            Some((_, began)) => began,
            None => now,
        };
        self.turn = Some((fence, began));
        (self.paused, self.held) = (false, true);
        self.round_trip = round_trip;
    }

    /// Records that a task of this process released the key.
    pub(crate) fn freed(&mut self) {
        self.held = false;
    }

    /// Records the holder that refused an attempt.
    pub(crate) fn refused(&mut self, holder: Option<Fence>) {
        let own = self.turn.map(|(fence, _)| fence);
        if holder.is_some() && holder != own {
            *self = Self { contested: true, ..Self::default() };
        }
    }

    pub(crate) fn is_contested(&self) -> bool {
        self.contested
    }

    /// Returns how long to pause before asking, at most once in a turn.
    pub(crate) fn pause(&mut self, now: Instant, least: Duration) -> Option<Duration> {
        let (_, began) = self.turn.filter(|_| !self.held && !self.paused)?;
        if now.saturating_duration_since(began) < self.length {
            return None;
        }
        self.paused = true;
        // The other process is notified of the release half a round trip after the store, and its
        // request takes as long. It may be further away than this process.
        Some((self.round_trip * 2 + least).min(LONGEST_PAUSE.max(least)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{LONGEST_PAUSE, LONGEST_TURN, NOTIFIED_PAUSE, Possession, SHORTEST_TURN};
    use crate::Fence;

    const ROUND_TRIP: Duration = Duration::from_millis(1);

    struct Stage {
        possession: Possession,
        now: Instant,
    }

    impl Stage {
        fn new() -> Self {
            Self { possession: Possession::default(), now: Instant::now() }
        }

        /// Holds the key for a while, and returns whether the next waiter pauses.
        fn hold(&mut self, fence: u64, time: Duration) -> bool {
            self.possession.granted(Fence::new(fence).unwrap(), self.now, ROUND_TRIP);
            self.now += time;
            assert_eq!(self.pause(), None, "no pause while it is held");
            self.possession.freed();
            self.pause().is_some()
        }

        fn pause(&mut self) -> Option<Duration> {
            self.possession.pause(self.now, NOTIFIED_PAUSE)
        }
    }

    #[test]
    fn a_turn_ends_with_a_pause_and_turns_grow_while_pauses_are_in_vain() {
        let mut stage = Stage::new();
        let just = Duration::from_millis(1);
        assert!(!stage.hold(1, SHORTEST_TURN - just));
        assert!(stage.hold(2, just));
        assert!(!stage.hold(3, SHORTEST_TURN * 2 - just));
        assert!(stage.hold(4, just));
        assert!(!stage.hold(5, LONGEST_TURN - just));
        assert!(stage.hold(6, just));
        assert!(!stage.hold(7, LONGEST_TURN - just));
    }

    #[test]
    fn a_grant_elsewhere_makes_turns_short_again_and_begins_one() {
        let mut stage = Stage::new();
        assert!(stage.hold(1, SHORTEST_TURN));
        assert!(!stage.hold(2, SHORTEST_TURN * 3 / 2), "it has doubled");
        assert!(!stage.hold(4, SHORTEST_TURN / 2), "a turn began with the grant elsewhere");
        assert!(stage.hold(5, SHORTEST_TURN / 2));
    }

    #[test]
    fn another_process_counts_as_met_until_the_longest_turn_was_followed_by_a_pause_in_vain() {
        let mut stage = Stage::new();
        assert!(stage.hold(1, SHORTEST_TURN));
        assert!(!stage.possession.is_contested(), "no other was met");
        assert!(stage.hold(3, SHORTEST_TURN));
        assert!(stage.hold(4, SHORTEST_TURN * 2));
        assert!(stage.hold(5, LONGEST_TURN));
        assert!(stage.possession.is_contested());
        stage.hold(6, SHORTEST_TURN);
        assert!(!stage.possession.is_contested());
        stage.possession.refused(Some(Fence::new(6).unwrap()));
        assert!(!stage.possession.is_contested(), "it met its own grant");
        stage.possession.refused(Some(Fence::new(7).unwrap()));
        assert!(stage.possession.is_contested());
    }

    #[test]
    fn a_pause_lasts_for_two_round_trips_and_the_least_up_to_a_bound() {
        let pause_after = |round_trip, least| {
            let mut possession = Possession::default();
            let granted = Instant::now();
            possession.granted(Fence::new(1).unwrap(), granted, round_trip);
            possession.freed();
            possession.pause(granted + SHORTEST_TURN, least).unwrap()
        };
        assert_eq!(pause_after(ROUND_TRIP, NOTIFIED_PAUSE), ROUND_TRIP * 2 + NOTIFIED_PAUSE);
        assert_eq!(pause_after(LONGEST_PAUSE, NOTIFIED_PAUSE), LONGEST_PAUSE);
        assert_eq!(pause_after(ROUND_TRIP, LONGEST_PAUSE * 2), LONGEST_PAUSE * 2);
    }

    #[test]
    fn whoever_meets_a_holder_elsewhere_does_not_pause_when_that_one_leaves() {
        let mut stage = Stage::new();
        assert!(!stage.hold(1, SHORTEST_TURN / 2));
        stage.possession.refused(Some(Fence::new(2).unwrap()));
        stage.now += SHORTEST_TURN * 4;
        assert_eq!(stage.pause(), None);
    }
}
