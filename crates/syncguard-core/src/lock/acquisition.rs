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
use crate::{Error, Holder};

/// How much later than the holder's expiry to ask, at the least: the store rounds to milliseconds.
const ROUNDING: Duration = Duration::from_millis(2);

/// Over how long the contenders of different processes spread after an expiry.
const SPREAD: Duration = Duration::from_millis(8);

/// The way of one task from asking for a lock to having it.
pub(crate) struct Acquisition<'a> {
    shared: &'a Arc<Shared>,
    terms: &'a Terms,
    runtime: Handle,
    refusal: Option<Refusal>,
}

/// Why the last attempt did not give the lock.
enum Refusal {
    Contended(Option<Holder>),
    Failed(Error),
}

impl<'a> Acquisition<'a> {
    pub(crate) fn new(shared: &'a Arc<Shared>, terms: &'a Terms, runtime: Handle) -> Self {
        Self { shared, terms, runtime, refusal: None }
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
        let mut due = None;
        loop {
            let freed = place.freed();
            match self.shared.attempt(self.terms, &self.runtime).await {
                Ok(Attempted::Granted(guard)) => return Ok(guard),
                Ok(Attempted::Contended(holder)) => {
                    self.refusal = Some(Refusal::Contended(holder));
                    if !head.is_subscribed() && self.subscribe(head).await {
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
                    self.subscribe(head).await;
                }
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    async fn subscribe(&self, head: &mut Head) -> bool {
        head.subscribe(&self.shared.backend, &self.terms.key).await;
        head.is_subscribed()
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

    /// Returns the error that tells why the lock is not had.
    pub(crate) fn given_up(&mut self) -> Error {
        let holder = match self.refusal.take() {
            Some(Refusal::Failed(error)) => return error,
            Some(Refusal::Contended(holder)) => holder,
            None => None,
        };
        contended(&self.terms.key, holder)
    }
}
