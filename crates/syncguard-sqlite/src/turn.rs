//! The turns that the connections of one backend take.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// What a request is for. Lower ranks go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// Extends a lock that is held.
    Extend,
    /// Releases or abandons.
    Release,
    /// Everything else: acquires, lookups, an operator's requests.
    Other,
}

/// One turn at a time: by rank, and first come, first served within a rank.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    taken: bool,
    next: u64,
    waiting: BTreeMap<Place, oneshot::Sender<()>>,
}

type Place = (Rank, u64);

/// A turn, or a place in the queue for one. Dropping it passes the turn on or leaves the queue.
///
/// **Invariant:** while `taken`, exactly one `Turn` that is not in `waiting` exists. A turn is passed on
/// by removing the first entry from `waiting`, under the lock. So a `Turn` that is dropped at the moment
/// at which it is passed the turn finds its entry gone, and passes the turn on in its place.
#[derive(Debug)]
#[must_use = "dropping it ends the turn"]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    place: Place,
}

impl Turns {
    /// Waits for a turn.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue.
    pub(crate) async fn take(self: &Arc<Self>, rank: Rank) -> Turn {
        let (turn, passed) = self.join(rank);
        if let Some(passed) = passed {
            // The sender lives in `waiting` until the turn is passed, so an error cannot occur.
            let _ = passed.await;
        }
        turn
    }

    fn join(self: &Arc<Self>, rank: Rank) -> (Turn, Option<oneshot::Receiver<()>>) {
        let mut state = self.state();
        let place = (rank, state.next);
        state.next += 1;
        let turn = Turn { turns: self.clone(), place };
        if !mem::replace(&mut state.taken, true) {
            return (turn, None);
        }
        let (pass, passed) = oneshot::channel();
        state.waiting.insert(place, pass);
        (turn, Some(passed))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Lets waiting requests of a lower rank go first, and waits for the turn again.
    pub(crate) async fn yield_to_lower_ranks(&mut self) {
        if let Some(passed) = self.step_back() {
            let _ = passed.await;
        }
    }

    fn step_back(&mut self) -> Option<oneshot::Receiver<()>> {
        let mut state = self.turns.state();
        let first = state.waiting.first_entry().filter(|first| first.key().0 < self.place.0)?;
        let next = first.remove();
        let (pass, passed) = oneshot::channel();
        state.waiting.insert(self.place, pass);
        drop(state);
        let _ = next.send(());
        Some(passed)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        if state.waiting.remove(&self.place).is_some() {
            return;
        }
        let next = state.waiting.pop_first();
        state.taken = next.is_some();
        drop(state);
        if let Some((_, next)) = next {
            // Should its receiver be gone, its `Turn` is about to be dropped and passes the turn on.
            let _ = next.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::{Pin, pin},
        sync::Arc,
        task::{Context, Poll, Waker},
    };

    use super::{Rank, Turn, Turns};

    fn poll<F: Future>(future: &mut Pin<&mut F>) -> Option<F::Output> {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    fn take(turns: &Arc<Turns>, rank: Rank) -> Turn {
        poll(&mut pin!(turns.take(rank))).expect("the turn is free")
    }

    #[test]
    fn extends_go_before_releases_and_those_before_the_rest_in_the_order_of_arrival() {
        let turns = Arc::new(Turns::default());
        let held = take(&turns, Rank::Other);
        let ranks = [Rank::Other, Rank::Other, Rank::Release, Rank::Extend, Rank::Extend];
        let mut waiting = ranks.map(|rank| Box::pin(turns.take(rank)));
        for waiter in &mut waiting {
            assert!(poll(&mut waiter.as_mut()).is_none());
        }
        drop(held);
        for next in [3, 4, 2, 0, 1] {
            let ready: Vec<Option<Turn>> =
                waiting.iter_mut().map(|waiter| poll(&mut waiter.as_mut())).collect();
            let which: Vec<usize> = (0..5).filter(|one| ready[*one].is_some()).collect();
            assert_eq!(which, [next]);
            waiting[next] = Box::pin(turns.take(Rank::Other));
        }
    }

    #[test]
    fn a_turn_that_was_passed_to_a_dropped_waiter_is_passed_on() {
        let turns = Arc::new(Turns::default());
        let held = take(&turns, Rank::Other);
        let mut leaving = Box::pin(turns.take(Rank::Other));
        let mut staying = pin!(turns.take(Rank::Other));
        assert!(poll(&mut leaving.as_mut()).is_none() && poll(&mut staying).is_none());
        drop(held);
        drop(leaving);
        drop(poll(&mut staying).expect("the turn was lost"));
        drop(take(&turns, Rank::Other));
    }

    #[test]
    fn lower_ranks_go_first_and_the_turn_returns_to_its_place() {
        let turns = Arc::new(Turns::default());
        let mut held = take(&turns, Rank::Other);
        let mut later = pin!(turns.take(Rank::Other));
        let mut extend = pin!(turns.take(Rank::Extend));
        assert!(poll(&mut later).is_none() && poll(&mut extend).is_none());
        let mut passing = Box::pin(held.yield_to_lower_ranks());
        assert!(poll(&mut passing.as_mut()).is_none(), "the extend goes first");
        drop(poll(&mut extend).expect("it was not let pass"));
        assert!(poll(&mut later).is_none(), "it came later");
        poll(&mut passing.as_mut()).expect("the turn did not come back");
        drop(passing);
        poll(&mut pin!(held.yield_to_lower_ranks())).expect("no one of a lower rank waits");
        drop(held);
        assert!(poll(&mut later).is_some());
    }
}
