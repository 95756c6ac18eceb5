use std::{sync::Arc, time::Duration};

use tokio::{runtime::Handle, time::Instant};

use super::{
    announcing,
    attempt::{self, AttemptOutcome},
    guard::LockGuard,
    options::LockOptions,
    queue::{Queues, Waiter},
    retry::{Jitter, Retry, Schedule},
    shared::Shared,
    timer::Timer,
    turn::{Due, Turn},
};
use crate::{
    Error, ErrorKind, Holder, LockKey, Operation,
    backend::{LockBackend, Mode, WakeUp},
};

/// The shortest delay between the holder's expiry and the next attempt: the store rounds to
/// milliseconds.
const EXPIRY_ROUNDING: Duration = Duration::from_millis(2);

/// The longest random delay after an expiry, so that contenders of different processes do not all
/// send their requests at the same time.
const MAX_EXPIRY_JITTER: Duration = Duration::from_millis(8);

/// The shortest time between two wake-ups by a subscription, which may complete spuriously and
/// immediately each time. The wait must not become a busy loop.
const MIN_WAKE_UP_INTERVAL: Duration = Duration::from_millis(2);

/// The longest time between attempts while the holder's client does not notify waiters of its
/// release.
///
/// Such clients also wait by polling, from 100 ms on with growing delays, and one that works in a
/// loop acquires the key again a round trip after it released it. An attempt at a random moment
/// falls into that gap with a probability equal to the gap's share of a cycle: with holds of 20 ms
/// and a gap of 0.3 ms, once in 70 attempts. At 40 attempts a second that takes two seconds on
/// average, and more than ten seconds about once in 300 waits.
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(30);

/// The steps of one task from requesting a lock to holding it.
pub(crate) struct Acquisition<'a> {
    shared: &'a Arc<Shared>,
    queues: &'a Queues,
    options: &'a LockOptions,
    home: Handle,
    last_failure: Option<AttemptFailure>,
    /// Whether an attempt is in flight.
    in_flight: bool,
}

/// Why the last attempt did not acquire the lock.
enum AttemptFailure {
    Contended(Option<Holder>),
    Error(Error),
}

impl<'a> Acquisition<'a> {
    pub(crate) fn new(
        shared: &'a Arc<Shared>,
        queues: &'a Queues,
        options: &'a LockOptions,
        home: Handle,
    ) -> Self {
        Self { shared, queues, options, home, last_failure: None, in_flight: false }
    }

    /// Joins the queue, and contends once it is the head.
    pub(crate) async fn run(&mut self, retry: &Retry) -> Result<LockGuard, Error> {
        let LockOptions { key, mode, priority, .. } = self.options;
        let waiter = self.queues.join(key, *mode, *priority);
        let home = self.home.clone();
        if mode.is_shared() {
            while waiter.turn(&home).await == Turn::Admitted {
                if let Some(guard) = self.attempt_beside_head(&waiter).await? {
                    return Ok(guard);
                }
            }
        }
        waiter.drive(&home, self.contend(&waiter, retry.schedule())).await
    }

    /// Makes one attempt in shared mode while another waiter is the head. Whatever it waits for
    /// after a refusal, a failure that may pass, or a lost admission, the head waits for too.
    async fn attempt_beside_head(&mut self, waiter: &Waiter) -> Result<Option<LockGuard>, Error> {
        let sent = self.now_if_fair();
        self.in_flight = true;
        let attempt = attempt::start(self.shared, self.options, None, &self.home);
        let outcome = waiter.attempt_beside_head(&self.home, attempt).await;
        self.in_flight = false;
        let Some(outcome) = outcome else { return Ok(None) };
        self.shared_attempt_ended(waiter, outcome.as_ref().ok(), sent);
        match outcome {
            Ok(AttemptOutcome::Granted(guard)) => return Ok(Some(guard)),
            Ok(AttemptOutcome::Contended(holder)) => {
                self.last_failure = Some(AttemptFailure::Contended(holder));
            }
            Err(error) if !error.is_retryable() => return Err(error),
            Err(error) => self.last_failure = Some(AttemptFailure::Error(error)),
        }
        Ok(None)
    }

    /// Makes attempts until the lock is granted, as the head of the queue.
    ///
    /// **Invariant:** no wake-up is lost. Each attempt is made *after* subscribing to releases. A
    /// release therefore either precedes the attempt, which then succeeds or finds a new holder, or
    /// it completes a subscription. Only the very first attempt is made without a subscription: a
    /// free lock needs none, and a lock that is not free is requested again as soon as the
    /// subscription is active.
    ///
    /// A store that keeps waiters in line completes only the subscription of the first of them. The
    /// others are in line for a later release, and the schedule bounds what a lost turn costs. The
    /// schedule also bounds what a lost notification costs, and nothing else depends on it while the
    /// store would notify of a release: its delays are long then.
    async fn contend(
        &mut self,
        waiter: &Waiter,
        mut schedule: Schedule,
    ) -> Result<LockGuard, Error> {
        let (mut due, mut next_wake_up) = (None, None);
        loop {
            match self.attempt(waiter).await {
                Some(Ok(AttemptOutcome::Granted(guard))) => {
                    waiter.announcement_granted();
                    return Ok(guard);
                }
                Some(Ok(AttemptOutcome::Contended(holder))) => {
                    self.last_failure = Some(AttemptFailure::Contended(holder));
                    if !waiter.is_subscribed() {
                        waiter.subscribe(self.shared, &self.home).await;
                        continue;
                    }
                }
                Some(Err(error)) if !error.is_retryable() => return Err(error),
                Some(Err(error)) => self.last_failure = Some(AttemptFailure::Error(error)),
                // It was unpolled for so long that another waiter took the turn; now it is the head
                // again.
                None => continue,
            }
            let scheduled = match due {
                Some(due) => due,
                None => {
                    let next = self.next_scheduled(waiter, &mut schedule);
                    next.ok_or_else(|| self.timeout_error())?
                }
            };
            // An attempt that follows from the holder's expiry, from polling or from an announcement
            // is made in addition to the schedule and does not count as one of its retries.
            let until = self.next_hint().map_or(scheduled, |hint| hint.min(scheduled));
            due = Some(scheduled).filter(|scheduled| *scheduled > until);
            tokio::select! {
                () = waiter.attempt_due(self.least_due()) => due = Some(scheduled),
                () = waiter.released_elsewhere(self.shared, &self.home) => {
                    due = Some(scheduled);
                    if let Some(until) = self.deferred_until(waiter) {
                        // This process may release the key itself meanwhile.
                        tokio::select! {
                            () = waiter.attempt_due(Due::Released) => {}
                            () = Timer::at(until) => {}
                        }
                    }
                    if let Some(earliest) = next_wake_up.filter(|at| Instant::now() < *at) {
                        Timer::at(earliest).await;
                    }
                    next_wake_up = Some(Instant::now() + MIN_WAKE_UP_INTERVAL);
                    waiter.subscribe(self.shared, &self.home).await;
                }
                () = Timer::at(until) => {}
            }
        }
    }

    /// Returns when to make the next scheduled attempt, or `None` if none is left.
    fn next_scheduled(&self, waiter: &Waiter, schedule: &mut Schedule) -> Option<Instant> {
        if schedule.may_leave_out() && self.is_notified(waiter) {
            return Some(waiter.aligned(Instant::now() + schedule.next_notified()?));
        }
        Some(Instant::now() + schedule.next()?)
    }

    /// Returns whether the store would notify the waiter if the holder released the key now. If the
    /// holder is not known, nor is that.
    fn is_notified(&self, waiter: &Waiter) -> bool {
        let Shared { backend, runtimes, .. } = &**self.shared;
        matches!(&self.last_failure, Some(AttemptFailure::Contended(Some(h))) if !h.silent)
            && waiter.is_subscribed()
            && runtimes.in_context(Some(&self.home), || backend.is_subscribed(&self.options.key))
    }

    /// Returns until when to leave a released key to processes that have waited longer.
    ///
    /// Where the store notifies the one that has waited longest, that one loses its turn if it
    /// defers to anyone.
    fn deferred_until(&self, waiter: &Waiter) -> Option<Instant> {
        if self.shared.backend.capabilities().wake_up == WakeUp::InTurn {
            return None;
        }
        // Readers defer to no one, as they pause for no one.
        let min_pause = self.shared.min_pause.filter(|_| self.options.mode != Mode::SHARED)?;
        let now = Instant::now();
        let deferral = waiter.fairness(|fairness| fairness.deferral(now, min_pause))?;
        Some(now + deferral)
    }

    /// Makes one attempt, after a pause for the waiters of other processes if it is their turn.
    async fn attempt(&mut self, waiter: &Waiter) -> Option<Result<AttemptOutcome, Error>> {
        let mode = self.options.mode;
        // Readers need no pause: a writer of another process keeps them out by its announcement.
        let min_pause = self.shared.min_pause;
        if let Some(min_pause) = min_pause.filter(|_| mode != Mode::SHARED && waiter.is_sharing()) {
            let pause = waiter.fairness(|fairness| fairness.pause(Instant::now(), min_pause));
            if let Some(pause) = pause {
                Timer::after(pause).await;
            }
        }
        let sent = self.now_if_fair();
        let outcome = self.send(waiter).await;
        if mode.is_shared() {
            let outcome = outcome.as_ref().and_then(|outcome| outcome.as_ref().ok());
            self.shared_attempt_ended(waiter, outcome, sent);
        }
        let Some(sent) = sent.filter(|_| !mode.is_shared()) else { return outcome };
        waiter.fairness(|fairness| match &outcome {
            Some(Ok(AttemptOutcome::Granted(guard))) => {
                let now = Instant::now();
                fairness.granted(guard.granted_fence(), now, now - sent);
            }
            Some(Ok(AttemptOutcome::Contended(Some(holder)))) if !holder.mode.is_shared() => {
                fairness.contended(holder.fence, Instant::now());
            }
            Some(Ok(AttemptOutcome::Contended(_))) => {}
            Some(Err(_)) | None => {}
        });
        outcome
    }

    /// Returns the present time, if other processes may wait for the key as well.
    fn now_if_fair(&self) -> Option<Instant> {
        self.shared.min_pause.map(|_| Instant::now())
    }

    /// Records the outcome of an attempt in shared mode, `None` if it has none.
    fn shared_attempt_ended(
        &self,
        waiter: &Waiter,
        outcome: Option<&AttemptOutcome>,
        sent: Option<Instant>,
    ) {
        let granted = match outcome {
            Some(AttemptOutcome::Granted(guard)) => Some(guard.granted_fence()),
            Some(AttemptOutcome::Contended(_)) | None => None,
        };
        waiter.shared_attempt_ended(granted.is_some());
        if let (Some(fence), Some(sent)) = (granted, sent) {
            let now = Instant::now();
            waiter.fairness(|fairness| fairness.granted_shared(fence, now, now - sent));
        }
    }

    async fn send(&mut self, waiter: &Waiter) -> Option<Result<AttemptOutcome, Error>> {
        waiter.clear_attempt_due();
        // The first attempt keeps up the announcement of the writer that was the head before.
        let announcement = match &self.last_failure {
            None => waiter.continue_announcement(),
            Some(_) if self.is_announcing() => waiter.announce(self.shared, &self.home),
            Some(_) => None,
        };
        self.in_flight = true;
        let attempt = attempt::start(self.shared, self.options, announcement, &self.home);
        let outcome = waiter.attempt(attempt).await;
        self.in_flight = false;
        outcome
    }

    /// Returns whether the next attempt announces that a writer waits: the last one was refused,
    /// and not because of another writer.
    fn is_announcing(&self) -> bool {
        let Some(AttemptFailure::Contended(holder)) = &self.last_failure else { return false };
        self.options.mode == Mode::Exclusive
            && holder.as_ref().is_none_or(|holder| holder.mode.is_shared())
            && self.shared.backend.capabilities().shared
    }

    /// Returns the least reason for which the next attempt is made early.
    ///
    /// After an error, the id of the attempt that failed is abandoned. If that were a reason, a store
    /// that fails fast would be sent one attempt after the other, without the delays of the schedule.
    fn least_due(&self) -> Due {
        match self.last_failure {
            Some(AttemptFailure::Error(_)) => Due::Released,
            Some(AttemptFailure::Contended(_)) | None => Due::Abandoned,
        }
    }

    /// Returns when to make the next attempt, according to what is known of the holder, or because
    /// an announcement is to be renewed.
    fn next_hint(&self) -> Option<Instant> {
        let silent =
            matches!(&self.last_failure, Some(AttemptFailure::Contended(Some(h))) if h.silent)
                .then(|| Instant::now() + Jitter::Equal.of(MAX_POLL_INTERVAL));
        let renewal = self
            .is_announcing()
            .then(|| Instant::now() + Jitter::Equal.of(announcing::MAX_RENEWAL));
        self.holder_expiry().into_iter().chain(silent).chain(renewal).min()
    }

    /// Returns when the key can be granted to another holder, according to the last reply.
    fn holder_expiry(&self) -> Option<Instant> {
        let Some(AttemptFailure::Contended(Some(holder))) = &self.last_failure else {
            return None;
        };
        let delay = holder.free_in? + EXPIRY_ROUNDING;
        Some(Instant::now() + delay + Jitter::Full.of(MAX_EXPIRY_JITTER))
    }

    fn ambiguous(&self) -> Error {
        Error::new(ErrorKind::Ambiguous)
            .with_operation(Operation::Acquire)
            .with_key(&self.options.key)
            .with_detail("the wait ended before the store had answered")
            .with_free_within(self.options.ttl.as_duration() + self.shared.grace)
    }

    /// Returns the error for a wait that ended: why the lock was not granted.
    pub(crate) fn timeout_error(&mut self) -> Error {
        let holder = match self.last_failure.take() {
            Some(AttemptFailure::Error(error)) => return error,
            Some(AttemptFailure::Contended(holder)) => holder,
            None if self.in_flight => return self.ambiguous(),
            None => {
                return contended(&self.options.key, None)
                    .with_detail("other waiters of this process were ahead in the queue");
            }
        };
        contended(&self.options.key, holder)
    }
}

/// Returns the error for a lock that another holder holds.
pub(crate) fn contended(key: &LockKey, holder: Option<Holder>) -> Error {
    Error::new(ErrorKind::AcquisitionTimeout)
        .with_operation(Operation::Acquire)
        .with_key(key)
        .with_holder(holder)
}
