use std::{sync::Arc, time::Duration};

use tokio::{runtime::Handle, time::Instant};

use super::{
    attempt::{self, Attempted},
    guard::LockGuard,
    options::LockOptions,
    queue::{Place, Queues},
    retry::{Jitter, Retry, Schedule},
    shared::Shared,
    timer::Timer,
};
use crate::{Error, ErrorKind, Holder, LockKey, Operation};

/// The shortest delay between the holder's expiry and the next attempt: the store rounds to
/// milliseconds.
const ROUNDING: Duration = Duration::from_millis(2);

/// The time over which contenders of different processes spread after an expiry.
const SPREAD: Duration = Duration::from_millis(8);

/// The shortest time between two wake-ups. A subscription may complete spuriously, even immediately
/// each time, and must not turn the wait into a busy loop.
const REST: Duration = Duration::from_millis(2);

/// The longest time between attempts while the holder's client does not notify waiters of its
/// release.
///
/// Such clients also wait by polling, from 100 ms on with growing delays, and one that works in a
/// loop acquires the key again a round trip after it released it. An attempt at a random moment
/// hits that gap with a probability equal to the gap's share of a cycle: with holds of 20 ms and a
/// gap of 0.3 ms, once in 70 attempts. At 40 attempts a second that takes two seconds on average,
/// and more than ten seconds about once in 300 waits.
const SILENT_POLL: Duration = Duration::from_millis(30);

/// The steps of one task from requesting a lock to holding it.
pub(crate) struct Acquisition<'a> {
    shared: &'a Arc<Shared>,
    queues: &'a Queues,
    options: &'a LockOptions,
    home: Handle,
    refusal: Option<Refusal>,
    asking: bool,
}

/// Why the last attempt did not acquire the lock.
enum Refusal {
    Contended(Option<Holder>),
    Failed(Error),
}

impl<'a> Acquisition<'a> {
    pub(crate) fn new(
        shared: &'a Arc<Shared>,
        queues: &'a Queues,
        options: &'a LockOptions,
        home: Handle,
    ) -> Self {
        Self { shared, queues, options, home, refusal: None, asking: false }
    }

    /// Joins the queue, and contends once it is the head.
    pub(crate) async fn run(&mut self, retry: &Retry) -> Result<LockGuard, Error> {
        let place = self.queues.join(&self.options.key);
        let home = self.home.clone();
        place.drive(&home, self.contend(&place, retry.schedule())).await
    }

    /// Asks until the lock is granted, as the head of the queue.
    ///
    /// **Invariant:** no wake-up is lost. Each attempt is made *after* subscribing to releases. A
    /// release therefore either precedes the attempt, which then succeeds or meets a new holder, or
    /// it completes a subscription. Only the very first attempt is made without a subscription: a
    /// free lock costs none, and a lock that is not free is requested again as soon as the
    /// subscription is active.
    async fn contend(&mut self, place: &Place, mut schedule: Schedule) -> Result<LockGuard, Error> {
        let (mut due, mut rested) = (None, None);
        loop {
            match self.attempt(place).await {
                Some(Ok(Attempted::Granted(guard))) => return Ok(guard),
                Some(Ok(Attempted::Contended(holder))) => {
                    self.refusal = Some(Refusal::Contended(holder));
                    if !place.is_subscribed() {
                        place.subscribe(self.shared, &self.home).await;
                        continue;
                    }
                }
                Some(Err(error)) if !error.is_retryable() => return Err(error),
                Some(Err(error)) => self.refusal = Some(Refusal::Failed(error)),
                // It was unpolled for so long that others took the turn. It has the turn again.
                None => continue,
            }
            let scheduled = match due {
                Some(due) => due,
                None => Instant::now() + schedule.next().ok_or_else(|| self.given_up())?,
            };
            // An attempt that follows from the holder's last answer is made in addition to the
            // schedule and does not count as one of its retries.
            let until = self.hinted().map_or(scheduled, |hinted| hinted.min(scheduled));
            due = Some(scheduled).filter(|scheduled| *scheduled > until);
            tokio::select! {
                () = place.freed() => due = Some(scheduled),
                () = place.released(self.shared, &self.home) => {
                    due = Some(scheduled);
                    if let Some(rested) = rested.filter(|rested| Instant::now() < *rested) {
                        Timer::at(rested).await;
                    }
                    rested = Some(Instant::now() + REST);
                    place.subscribe(self.shared, &self.home).await;
                }
                () = Timer::at(until) => {}
            }
        }
    }

    /// Asks once, after a pause if the waiters of other processes are to be let in.
    async fn attempt(&mut self, place: &Place) -> Option<Result<Attempted, Error>> {
        let Some(least) = self.shared.least_pause else { return self.ask(place).await };
        if place.is_sharing() {
            let pause = place.possession(|possession| possession.pause(Instant::now(), least));
            if let Some(pause) = pause {
                Timer::after(pause).await;
            }
        }
        let asked = Instant::now();
        let attempted = self.ask(place).await;
        place.possession(|possession| match &attempted {
            Some(Ok(Attempted::Granted(guard))) => {
                let now = Instant::now();
                possession.granted(guard.granted_fence(), now, now - asked);
            }
            Some(Ok(Attempted::Contended(holder))) => {
                possession.refused(holder.as_ref().and_then(|holder| holder.fence));
            }
            Some(Err(_)) | None => {}
        });
        attempted
    }

    async fn ask(&mut self, place: &Place) -> Option<Result<Attempted, Error>> {
        place.forget_releases();
        self.asking = true;
        let attempted = place.attempt(attempt::start(self.shared, self.options, &self.home)).await;
        self.asking = false;
        attempted
    }

    /// Returns when to ask again, according to what is known of the holder.
    fn hinted(&self) -> Option<Instant> {
        let Some(Refusal::Contended(Some(holder))) = &self.refusal else {
            return None;
        };
        let silent = holder.silent.then(|| Instant::now() + drawn(SILENT_POLL, Jitter::Equal));
        self.holder_over().into_iter().chain(silent).min()
    }

    /// Returns when the key can be granted to others, according to the holder's last answer.
    fn holder_over(&self) -> Option<Instant> {
        let Some(Refusal::Contended(Some(holder))) = &self.refusal else {
            return None;
        };
        Some(Instant::now() + holder.free_in? + ROUNDING + drawn(SPREAD, Jitter::Full))
    }

    fn unanswered(&self) -> Error {
        Error::new(ErrorKind::Ambiguous, Operation::Acquire)
            .with_key(&self.options.key)
            .with_detail("the wait ended before the store had answered")
            .with_free_within(self.options.ttl.as_duration() + self.shared.grace)
    }

    /// Returns the error that explains why the lock was not granted.
    pub(crate) fn given_up(&mut self) -> Error {
        let holder = match self.refusal.take() {
            Some(Refusal::Failed(error)) => return error,
            Some(Refusal::Contended(holder)) => holder,
            None if self.asking => return self.unanswered(),
            None => {
                return contended(&self.options.key, None)
                    .with_detail("other waiters of this process were ahead in the queue");
            }
        };
        contended(&self.options.key, holder)
    }
}

fn drawn(delay: Duration, jitter: Jitter) -> Duration {
    Retry::fixed(delay).jitter(jitter).schedule().next().unwrap_or_default()
}

/// Returns the error for a lock that another holder holds.
pub(crate) fn contended(key: &LockKey, holder: Option<Holder>) -> Error {
    Error::new(ErrorKind::AcquisitionTimeout, Operation::Acquire).with_key(key).with_holder(holder)
}
