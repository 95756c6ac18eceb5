use std::{sync::Arc, time::Duration};

use tokio::{runtime::Handle, time::Instant};

use super::{
    attempt::Attempted,
    builder::{Terms, contended},
    guard::LockGuard,
    queue::{Head, Place},
    retry::{Jitter, Retry, Schedule},
    shared::Shared,
};
use crate::{Error, ErrorKind, Holder, Operation};

/// How much later than the holder's expiry to ask, at the least: the store rounds to milliseconds.
const ROUNDING: Duration = Duration::from_millis(2);

/// Over how long the contenders of different processes spread after an expiry.
const SPREAD: Duration = Duration::from_millis(8);

/// How long two wake-ups lie apart at the least: a subscription may resolve for no reason, even at
/// once each time, and must not turn the wait into a loop without a rest.
const REST: Duration = Duration::from_millis(2);

/// The way of one task from asking for a lock to having it.
pub(crate) struct Acquisition<'a> {
    shared: &'a Arc<Shared>,
    terms: &'a Terms,
    runtime: Handle,
    refusal: Option<Refusal>,
    asking: bool,
}

/// Why the last attempt did not give the lock.
enum Refusal {
    Contended(Option<Holder>),
    Failed(Error),
}

impl<'a> Acquisition<'a> {
    pub(crate) fn new(shared: &'a Arc<Shared>, terms: &'a Terms, runtime: Handle) -> Self {
        Self { shared, terms, runtime, refusal: None, asking: false }
    }

    /// Joins the queue, and contends once it is at its head.
    pub(crate) async fn run(&mut self, retry: &Retry) -> Result<LockGuard, Error> {
        let place = self.shared.queues.join(&self.terms.key);
        let mut head = place.turn().await;
        self.contend(&place, &mut head, retry.schedule()).await
    }

    /// Asks until the lock is had, as the head of the queue.
    ///
    /// **Invariant:** no wake-up is lost. Each attempt is made *after* subscribing to releases, so a
    /// release either comes before the attempt, which then succeeds or meets a new holder, or it
    /// resolves a subscription. Only the very first attempt goes without: a lock that is free costs
    /// no subscription, and one that is not is asked for again as soon as the subscription stands.
    async fn contend(
        &mut self,
        place: &Place,
        head: &mut Head,
        mut schedule: Schedule,
    ) -> Result<LockGuard, Error> {
        let (mut due, mut rested) = (None, Instant::now());
        loop {
            let freed = place.freed();
            self.asking = true;
            let attempted = self.shared.attempt(self.terms, &self.runtime).await;
            self.asking = false;
            match attempted {
                Ok(Attempted::Granted(guard)) => return Ok(guard),
                Ok(Attempted::Contended(holder)) => {
                    self.refusal = Some(Refusal::Contended(holder));
                    if !head.is_subscribed() {
                        self.subscribe(head).await;
                        continue;
                    }
                }
                Err(error) if !error.is_retryable() => return Err(error),
                Err(error) => self.refusal = Some(Refusal::Failed(error)),
            }
            let scheduled = match due {
                Some(due) => due,
                None => Instant::now() + schedule.next().ok_or_else(|| self.given_up())?,
            };
            let until = self.holder_over().map_or(scheduled, |over| over.min(scheduled));
            due = Some(scheduled).filter(|scheduled| *scheduled > until);
            tokio::select! {
                () = freed => due = Some(scheduled),
                () = head.released() => {
                    due = Some(scheduled);
                    if Instant::now() < rested {
                        tokio::time::sleep_until(rested).await;
                    }
                    rested = Instant::now() + REST;
                    self.subscribe(head).await;
                }
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    async fn subscribe(&self, head: &mut Head) {
        head.subscribe(&self.shared.backend, &self.terms.key).await;
    }

    /// Tells when the holder's grant is over for others too, as far as its last answer says.
    fn holder_over(&self) -> Option<Instant> {
        let Some(Refusal::Contended(Some(holder))) = &self.refusal else {
            return None;
        };
        let spread = Retry::fixed(SPREAD).jitter(Jitter::Full).schedule().next();
        let over = holder.free_in? + ROUNDING + spread.unwrap_or_default();
        Some(Instant::now() + over)
    }

    fn unanswered(&self) -> Error {
        Error::new(ErrorKind::Ambiguous, Operation::Acquire)
            .with_key(&self.terms.key)
            .with_detail("the wait ended before the store had answered")
            .with_free_within(self.terms.ttl.as_duration() + self.shared.grace)
    }

    /// Returns the error that tells why the lock is not had.
    pub(crate) fn given_up(&mut self) -> Error {
        let holder = match self.refusal.take() {
            Some(Refusal::Failed(error)) => return error,
            Some(Refusal::Contended(holder)) => holder,
            None if self.asking => return self.unanswered(),
            // Still behind others of this process: nobody has asked the store for this task.
            None => return contended(&self.terms.key, None).with_detail("its turn never came"),
        };
        contended(&self.terms.key, holder)
    }
}
