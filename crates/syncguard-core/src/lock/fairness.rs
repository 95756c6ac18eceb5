//! Fairness between the waiters of this process and those of other processes.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    Fence,
    backend::{Capabilities, Fencing, RetireRequest, WakeUp},
};

/// How long the waiters of one process may pass a key to each other before they pause.
const MIN_TURN: Duration = Duration::from_millis(250);

/// The longest such time, after pauses that no other process used. It bounds how long a waiter of
/// another process is shut out.
const MAX_TURN: Duration = Duration::from_millis(750);

/// The shortest pause: a waiter in another process has to be woken and to send a request.
const MIN_NOTIFIED_PAUSE: Duration = Duration::from_millis(10);

/// The shortest pause if the backends of other processes watch the store, which takes a few
/// milliseconds longer.
const MIN_WATCHED_PAUSE: Duration = Duration::from_millis(20);

/// The longest pause, however slow the store is.
const MAX_PAUSE: Duration = Duration::from_millis(200);

/// How long after its last grant a process requests a key without a delay again: several times the
/// time in which a few processes have a turn each, so that each of them leaves a process that has
/// waited for longer enough time to be woken and to send a request.
const DEFERRAL_TIME: Duration = Duration::from_secs(4);

/// A wait that is longer than this shows more than one other process: a single one would have paused
/// after [`MIN_TURN`].
const CROWDED_WAIT: Duration = Duration::from_millis(375);

/// How long after such a wait more than one other process is assumed. In the order of their waits,
/// some processes wait for only one other, and must keep to the order nevertheless.
const CROWDED_TIME: Duration = Duration::from_secs(10);

/// Returns the shortest pause, or `None` if no other process can use the store.
pub(crate) fn min_pause(capabilities: &Capabilities) -> Option<Duration> {
    match (capabilities.fencing, capabilities.wake_up) {
        (Fencing::Process, _) => None,
        (_, WakeUp::Watched) => Some(MIN_WATCHED_PAUSE),
        (_, WakeUp::Notified | WakeUp::InTurn | WakeUp::None) => Some(MIN_NOTIFIED_PAUSE),
    }
}

/// How the waiters of one process share a key with other processes.
///
/// A process notices a release by its own tasks before any other process does, and its next waiter
/// sends a request immediately. With enough waiters it never gives up the key. So after a turn of
/// [`MIN_TURN`] the next waiter pauses before it requests the free key, and a waiter of another
/// process, woken by the same release, can acquire it. Fences show whether one did: they count
/// every grant of a key, so a gap is a grant to another process. Without a gap, the pause was
/// unused, and the next turn is twice as long. Fences that follow the store's clock have gaps anyway;
/// there, only a holder that refuses a request shows another process. If another process was seen, the same applies to a
/// single task that acquires the key repeatedly, until a pause after the longest turn was unused.
///
/// A pause is used by the process whose request arrives first. If that was left to chance, one of
/// several processes could be unlucky for many turns. So where more than one other process was
/// seen, a process that had the key lately delays its request after a release, by the less the
/// longer ago that was: the one that has waited longest comes first, and one that has not had the key
/// before every other. A store that keeps its waiters in line ([`WakeUp::InTurn`]) decides that
/// itself.
#[derive(Debug)]
pub(crate) struct Fairness {
    /// The fence of the last grant to this process, and when its turn began.
    turn: Option<(Fence, Instant)>,
    turn_limit: Duration,
    paused: bool,
    /// Whether a task of this process holds the key. A pause would overlap with its own hold.
    held: bool,
    round_trip: Duration,
    /// Whether another process was seen.
    contested: bool,
    last_grant: Option<Instant>,
    /// Since when requests are refused because of other processes.
    refused_since: Option<Instant>,
    /// When more than one other process was seen last.
    crowded: Option<Instant>,
}

impl Default for Fairness {
    fn default() -> Self {
        Self {
            turn: None,
            turn_limit: MIN_TURN,
            paused: false,
            held: false,
            round_trip: Duration::ZERO,
            contested: false,
            last_grant: None,
            refused_since: None,
            crowded: None,
        }
    }
}

impl Fairness {
    /// Records a grant to this process.
    pub(crate) fn granted(&mut self, fence: Fence, now: Instant, round_trip: Duration) {
        self.end_wait(now);
        let began = match self.turn {
            Some((last, _)) if counts_grants(fence) && last.next() != Some(fence) => {
                (self.turn_limit, self.contested) = (MIN_TURN, true);
                now
            }
            Some(_) if self.paused => {
                self.contested &= self.turn_limit < MAX_TURN;
                self.turn_limit = (self.turn_limit * 2).min(MAX_TURN);
                now
            }
            Some((_, began)) => began,
            None => now,
        };
        self.turn = Some((fence, began));
        (self.paused, self.held) = (false, true);
        self.round_trip = round_trip;
    }

    /// Records a shared grant to this process. It belongs to the turn, as the grants of the writers
    /// between which it was made do.
    ///
    /// The replies of shared grants that were in flight together arrive in any order, so a gap in
    /// their fences shows nothing. A grant to another process among them goes unnoticed, and the
    /// next pause comes as if there had been none.
    pub(crate) fn granted_shared(&mut self, fence: Fence, now: Instant, round_trip: Duration) {
        let turn = match self.turn {
            Some((last, _)) if self.paused => {
                self.turn_limit = (self.turn_limit * 2).min(MAX_TURN);
                (last.max(fence), now)
            }
            Some((last, began)) => (last.max(fence), began),
            None => (fence, now),
        };
        self.turn = Some(turn);
        self.paused = false;
        self.round_trip = round_trip;
    }

    fn end_wait(&mut self, now: Instant) {
        let refused_since = self.refused_since.take();
        if refused_since.is_some_and(|since| now > since + CROWDED_WAIT) {
            self.crowded = Some(now);
        }
        self.last_grant = Some(now);
    }

    /// Records that no task of this process waits for the key any more. If the last one gave up, its
    /// wait does not continue with that of the next one.
    pub(crate) fn waits_ended(&mut self) {
        self.refused_since = None;
    }

    /// Records that a task of this process released the key.
    pub(crate) fn released(&mut self) {
        self.held = false;
    }

    /// Records the holder because of which an attempt was not granted.
    pub(crate) fn contended(&mut self, holder: Option<Fence>, now: Instant) {
        let own = self.turn.map(|(fence, _)| fence);
        if holder.is_some() && holder != own {
            let Self { last_grant, crowded, round_trip, .. } = *self;
            *self = Self {
                contested: true,
                refused_since: Some(self.refused_since.unwrap_or(now)),
                last_grant,
                crowded,
                round_trip,
                ..Self::default()
            };
        }
    }

    pub(crate) fn is_contested(&self) -> bool {
        self.contested
    }

    /// Returns by how much to delay a request after a release by another process.
    ///
    /// With the round trip of the request, it is shorter than the [`pause`](Self::pause) of the
    /// other process, whose waiter would otherwise be the next to request the key. A process that
    /// holds the key, as far as it knows, was notified of a release of its own.
    pub(crate) fn deferral(&self, now: Instant, min_pause: Duration) -> Option<Duration> {
        let last_grant = self.last_grant.filter(|_| !self.held)?;
        self.crowded.filter(|at| now < *at + CROWDED_TIME)?;
        let rest = DEFERRAL_TIME.checked_sub(now.saturating_duration_since(last_grant))?;
        let longest = (self.round_trip + min_pause / 2).min(MAX_PAUSE / 2);
        Some(longest.mul_f64(rest.as_secs_f64() / DEFERRAL_TIME.as_secs_f64()))
    }

    /// Returns how long to pause before the next request, at most once in a turn.
    pub(crate) fn pause(&mut self, now: Instant, min: Duration) -> Option<Duration> {
        let (_, began) = self.turn.filter(|_| !self.held && !self.paused)?;
        if now.saturating_duration_since(began) < self.turn_limit {
            return None;
        }
        self.paused = true;
        // The other process is notified half a round trip after the store handled the release, and
        // its request takes as long. It may be further away than this process.
        Some((self.round_trip * 2 + min).min(MAX_PAUSE.max(min)))
    }
}

/// Returns whether a fence counts the grants of its key. One that is seeded is far higher.
fn counts_grants(fence: Fence) -> bool {
    fence.number() < RetireRequest::MIN_FENCE
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{
        CROWDED_TIME, CROWDED_WAIT, DEFERRAL_TIME, Fairness, MAX_PAUSE, MAX_TURN,
        MIN_NOTIFIED_PAUSE, MIN_TURN,
    };
    use crate::{Fence, backend::RetireRequest};

    const ROUND_TRIP: Duration = Duration::from_millis(1);

    struct Scenario {
        fairness: Fairness,
        now: Instant,
    }

    impl Scenario {
        fn new() -> Self {
            Self { fairness: Fairness::default(), now: Instant::now() }
        }

        /// Holds the key for a while, and returns whether the next waiter pauses.
        fn hold(&mut self, fence: u64, time: Duration) -> bool {
            self.fairness.granted(Fence::new(fence).unwrap(), self.now, ROUND_TRIP);
            self.now += time;
            assert_eq!(self.pause(), None, "no pause while it is held");
            self.fairness.released();
            self.pause().is_some()
        }

        fn pause(&mut self) -> Option<Duration> {
            self.fairness.pause(self.now, MIN_NOTIFIED_PAUSE)
        }
    }

    #[test]
    fn a_turn_ends_with_a_pause_and_turns_grow_while_pauses_are_unused() {
        let mut scenario = Scenario::new();
        let just = Duration::from_millis(1);
        assert!(!scenario.hold(1, MIN_TURN - just));
        assert!(scenario.hold(2, just));
        assert!(!scenario.hold(3, MIN_TURN * 2 - just));
        assert!(scenario.hold(4, just));
        assert!(!scenario.hold(5, MAX_TURN - just));
        assert!(scenario.hold(6, just));
        assert!(!scenario.hold(7, MAX_TURN - just));
    }

    #[test]
    fn shared_grants_to_this_process_belong_to_its_turn() {
        let mut scenario = Scenario::new();
        assert!(!scenario.hold(1, MIN_TURN / 2));
        // In the order in which their replies arrive.
        for fence in [3, 2] {
            let fence = Fence::new(fence).unwrap();
            scenario.fairness.granted_shared(fence, scenario.now, ROUND_TRIP);
        }
        assert!(scenario.hold(4, MIN_TURN / 2), "no grant to another process ended the turn");
        assert!(!scenario.fairness.is_contested());
    }

    #[test]
    fn turns_of_shared_grants_end_with_a_pause_too() {
        let mut fairness = Fairness::default();
        let (began, mut fences) = (Instant::now(), (1..).map(|fence| Fence::new(fence).unwrap()));
        let mut grant = |fairness: &mut Fairness, now| {
            fairness.granted_shared(fences.next().unwrap(), now, ROUND_TRIP);
            fairness.pause(now, MIN_NOTIFIED_PAUSE).is_some()
        };
        assert!(!grant(&mut fairness, began));
        assert!(grant(&mut fairness, began + MIN_TURN));
        assert!(!grant(&mut fairness, began + MIN_TURN), "a turn begins");
        assert!(!grant(&mut fairness, began + MIN_TURN * 2), "it is longer");
        assert!(grant(&mut fairness, began + MIN_TURN * 3));
    }

    #[test]
    fn a_grant_to_another_process_resets_the_turn_limit_and_begins_a_turn() {
        let mut scenario = Scenario::new();
        assert!(scenario.hold(1, MIN_TURN));
        assert!(!scenario.hold(2, MIN_TURN * 3 / 2), "it has doubled");
        assert!(!scenario.hold(4, MIN_TURN / 2), "a turn began with the grant to another process");
        assert!(scenario.hold(5, MIN_TURN / 2));
    }

    #[test]
    fn the_gaps_of_seeded_fences_show_no_other_process() {
        let mut scenario = Scenario::new();
        let seeded = |millis| RetireRequest::MIN_FENCE + millis;
        assert!(scenario.hold(seeded(0), MIN_TURN));
        assert!(!scenario.hold(seeded(300), MIN_TURN), "the turn is twice as long");
        assert!(scenario.hold(seeded(600), MIN_TURN));
        assert!(!scenario.fairness.is_contested());
        scenario.fairness.contended(Fence::new(seeded(900)).ok(), scenario.now);
        assert!(scenario.fairness.is_contested(), "a holder shows it");
    }

    #[test]
    fn a_key_is_contested_until_the_longest_turn_was_followed_by_an_unused_pause() {
        let mut scenario = Scenario::new();
        assert!(scenario.hold(1, MIN_TURN));
        assert!(!scenario.fairness.is_contested(), "no other process was seen");
        assert!(scenario.hold(3, MIN_TURN));
        assert!(scenario.hold(4, MIN_TURN * 2));
        assert!(scenario.hold(5, MAX_TURN));
        assert!(scenario.fairness.is_contested());
        scenario.hold(6, MIN_TURN);
        assert!(!scenario.fairness.is_contested());
        scenario.fairness.contended(Fence::new(6).ok(), scenario.now);
        assert!(!scenario.fairness.is_contested(), "the holder was this process");
        scenario.fairness.contended(Fence::new(7).ok(), scenario.now);
        assert!(scenario.fairness.is_contested());
    }

    #[test]
    fn a_pause_lasts_for_two_round_trips_and_the_minimum_up_to_a_bound() {
        let pause_after = |round_trip, min| {
            let mut fairness = Fairness::default();
            let granted = Instant::now();
            fairness.granted(Fence::new(1).unwrap(), granted, round_trip);
            fairness.released();
            fairness.pause(granted + MIN_TURN, min).unwrap()
        };
        assert_eq!(
            pause_after(ROUND_TRIP, MIN_NOTIFIED_PAUSE),
            ROUND_TRIP * 2 + MIN_NOTIFIED_PAUSE
        );
        assert_eq!(pause_after(MAX_PAUSE, MIN_NOTIFIED_PAUSE), MAX_PAUSE);
        assert_eq!(pause_after(ROUND_TRIP, MAX_PAUSE * 2), MAX_PAUSE * 2);
    }

    #[test]
    fn a_process_that_waited_for_another_one_does_not_pause_after_its_release() {
        let mut scenario = Scenario::new();
        assert!(!scenario.hold(1, MIN_TURN / 2));
        scenario.fairness.contended(Fence::new(2).ok(), scenario.now);
        scenario.now += MIN_TURN * 4;
        assert_eq!(scenario.pause(), None);
    }

    #[test]
    fn among_several_processes_the_one_that_had_the_key_last_defers_longest() {
        let mut scenario = Scenario::new();
        let deferral =
            |scenario: &Scenario| scenario.fairness.deferral(scenario.now, MIN_NOTIFIED_PAUSE);
        let longest = ROUND_TRIP + MIN_NOTIFIED_PAUSE / 2;
        let wait = |scenario: &mut Scenario, fence: u64, time: Duration| {
            scenario.fairness.contended(Fence::new(fence).ok(), scenario.now);
            scenario.now += time;
            scenario.fairness.contended(Fence::new(fence + 1).ok(), scenario.now);
        };
        wait(&mut scenario, 1, DEFERRAL_TIME * 2);
        assert_eq!(deferral(&scenario), None, "it has never had the key");
        scenario.hold(3, Duration::ZERO);
        assert_eq!(deferral(&scenario), Some(longest));
        wait(&mut scenario, 4, DEFERRAL_TIME / 2);
        assert_eq!(deferral(&scenario), Some(longest / 2));
        wait(&mut scenario, 6, DEFERRAL_TIME);
        assert_eq!(deferral(&scenario), None);
        // These waits show a single other process, which paused after its turn.
        scenario.hold(8, CROWDED_TIME - Duration::from_millis(1));
        wait(&mut scenario, 9, Duration::ZERO);
        scenario.hold(11, Duration::ZERO);
        assert_eq!(deferral(&scenario), Some(longest), "it still counts with others");
        wait(&mut scenario, 12, CROWDED_WAIT);
        scenario.hold(14, Duration::ZERO);
        assert_eq!(deferral(&scenario), None);
    }
}
