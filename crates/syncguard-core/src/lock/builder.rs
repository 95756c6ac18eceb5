use std::{pin::pin, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    acquisition::Acquisition,
    attempt::Attempted,
    guard::{LockGuard, TryAcquire},
    renewal::Renew,
    retry::Retry,
    scope::Scope,
    shared::Shared,
    timer::Timer,
};
use crate::{
    Error, ErrorKind, Holder, LockKey, Mode, Operation, Owner, Ttl,
    telemetry::{self, Ongoing},
    value::invalid::Invalid,
};

/// How long a wait lasts unless told otherwise.
const DEFAULT_WAIT: Duration = Duration::from_secs(5);

/// Describes one use of a lock; ends with [`acquire`](Self::acquire),
/// [`try_acquire`](Self::try_acquire), [`run`](Self::run) or [`try_run`](Self::try_run).
///
/// A value that breaks its rule is reported there, before anything is sent.
///
/// | Setting | Default |
/// | --- | --- |
/// | [`ttl`](Self::ttl) | 30 s |
/// | [`wait`](Self::wait) | 5 s |
/// | [`retry`](Self::retry) | 10 retries, 100 ms doubling up to 2 s, equal jitter |
/// | [`renew`](Self::renew) | every third of the ttl in `run` and `try_run`, never otherwise |
/// | [`min_hold`](Self::min_hold) | none |
/// | [`max_hold`](Self::max_hold) | none |
/// | [`owner`](Self::owner) | that of the [`SyncGuard`](crate::SyncGuard), `host:pid` |
/// | [`mode`](Self::mode) | [`Mode::Exclusive`] |
#[must_use = "a description of a lock locks nothing"]
pub struct LockBuilder {
    shared: Arc<Shared>,
    terms: Result<Terms, Error>,
    wait: Option<Duration>,
    retry: Option<Retry>,
    /// What ends the wait, and in `run` the work.
    calls_off: Scope,
}

/// What is asked of the store, and of the guard that comes of it.
#[derive(Clone)]
pub(crate) struct Terms {
    pub(crate) key: LockKey,
    pub(crate) ttl: Ttl,
    pub(crate) mode: Mode,
    pub(crate) owner: Owner,
    pub(crate) renew: Option<Renew>,
    pub(crate) min_hold: Option<Duration>,
    pub(crate) max_hold: Option<Duration>,
    /// What ends the lock itself.
    pub(crate) scope: Scope,
}

impl Terms {
    /// Lets `min_hold` begin: the guard has reached its user. One that reaches nobody is released at
    /// once, because nothing was done under it.
    fn received(&self, guard: LockGuard) -> LockGuard {
        if let Some(min_hold) = self.min_hold {
            guard.keep_for(min_hold);
        }
        guard
    }

    /// Checks what only the settings together tell.
    fn checked(self) -> Result<Self, Error> {
        let limits = [("ttl", Some(self.ttl.as_duration())), ("max_hold", self.max_hold)];
        for (limit, value) in limits {
            if let (Some(min_hold), Some(value)) = (self.min_hold, value)
                && min_hold > value
            {
                return Err(Invalid::LongMinHold { min_hold, limit, value }.into());
            }
        }
        Ok(self)
    }
}

impl LockBuilder {
    pub(crate) fn new(shared: Arc<Shared>, scope: &Scope, key: Result<LockKey, Error>) -> Self {
        let owner = shared.owner.clone();
        let terms = key.map(|key| Terms {
            key,
            ttl: Ttl::default(),
            mode: Mode::default(),
            owner,
            renew: None,
            min_hold: None,
            max_hold: None,
            scope: scope.clone(),
        });
        Self { shared, terms, wait: None, retry: None, calls_off: scope.clone() }
    }

    /// Sets how long the grant lasts unless it is extended: a [`Ttl`], a [`Duration`] or text such
    /// as `"30s"`.
    pub fn ttl(self, ttl: impl TryInto<Ttl, Error: Into<Error>>) -> Self {
        self.set(ttl.try_into(), |terms, ttl| terms.ttl = ttl)
    }

    /// Sets how long to wait for the lock at the most, even while a request is on its way. Zero
    /// asks once.
    ///
    /// Without a [`retry`](Self::retry) beside it, the retries are no longer counted: the wait
    /// alone bounds them.
    pub fn wait(self, wait: Duration) -> Self {
        Self { wait: Some(wait), ..self }
    }

    /// Sets when a refused or failed attempt is repeated. The wait bounds it all the same.
    pub fn retry(self, retry: Retry) -> Self {
        Self { retry: Some(retry), ..self }
    }

    /// Sets whether the lock is extended while it is held.
    pub fn renew(self, renew: Renew) -> Self {
        self.set(Ok::<_, Error>(renew), |terms, renew| terms.renew = Some(renew))
    }

    /// Sets how long the key stays taken at the least, from the grant on: a lock that is given back
    /// before that stays with the store until then. So a job that ends quickly is not run again by
    /// a machine whose schedule, or clock, is a little behind.
    ///
    /// It holds for a release and for a drop, and at most for the ttl, which must not be shorter: a
    /// process that dies early leaves the key taken for that long as well. The store's grace comes
    /// on top.
    pub fn min_hold(self, min_hold: Duration) -> Self {
        self.set(Ok::<_, Error>(min_hold), |terms, least| terms.min_hold = Some(least))
    }

    /// Sets how long the lock is held at the most, whatever the renewals. A lock that is held for
    /// that long counts as [lost](crate::Loss::MaxHold), so that a hung job does not keep it for
    /// ever.
    pub fn max_hold(self, max_hold: Duration) -> Self {
        self.set(Ok::<_, Error>(max_hold), |terms, limit| terms.max_hold = Some(limit))
    }

    /// Sets the label by which others learn who holds the lock.
    pub fn owner(self, owner: impl TryInto<Owner, Error: Into<Error>>) -> Self {
        self.set(owner.try_into(), |terms, owner| terms.owner = owner)
    }

    /// Sets whether others may hold the key at the same time.
    pub fn mode(self, mode: Mode) -> Self {
        self.set(Ok::<_, Error>(mode), |terms, mode| terms.mode = mode)
    }

    /// Gives up, with [`Aborted`](ErrorKind::Aborted), as soon as `token` is cancelled: the wait,
    /// and in `run` the work. A guard is not bound to it; one of a
    /// [`child`](crate::SyncGuard::child) is.
    pub fn cancel_on(self, token: CancellationToken) -> Self {
        Self { calls_off: self.calls_off.with(token), ..self }
    }

    /// Asks for the lock once.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a value that breaks its rule,
    /// [`Aborted`](ErrorKind::Aborted) where the token was cancelled,
    /// [`Ambiguous`](ErrorKind::Ambiguous) where nobody knows whether the lock was granted (it is
    /// called off in the background), or why the store could not answer.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves nothing behind: a grant that was made or is made later is released in the
    /// background.
    pub async fn try_acquire(self) -> Result<TryAcquire, Error> {
        let acquiring = self.acquiring();
        let result = acquiring.within(pin!(self.ask_once())).await;
        acquiring.end(result)
    }

    async fn ask_once(self) -> Result<TryAcquire, Error> {
        let Self { shared, terms, calls_off, .. } = self;
        let terms = terms?.checked()?;
        let attempt = shared.attempt(&terms, &shared.home(Operation::Acquire)?);
        let attempted = tokio::select! {
            biased;
            () = calls_off.ended() => return Err(aborted(&terms.key)),
            attempted = attempt => attempted?,
        };
        Ok(match attempted {
            Attempted::Granted(guard) => TryAcquire::Acquired(terms.received(guard)),
            Attempted::Contended(holder) => TryAcquire::Contended(holder),
        })
    }

    /// Waits for the lock.
    ///
    /// The tasks of one process that wait for one key form a queue, first come, first served; only
    /// the first of them asks the store. It asks again when the lock is released, when its holder's
    /// grant is over, or when the schedule says so, whichever comes first.
    ///
    /// # Errors
    ///
    /// [`AcquisitionTimeout`](ErrorKind::AcquisitionTimeout) where the wait or the retries are used
    /// up; [`Error::holder`] tells who had the lock. Otherwise as
    /// [`try_acquire`](Self::try_acquire); what may pass is tried again within the wait.
    ///
    /// # Cancel safety
    ///
    /// As [`try_acquire`](Self::try_acquire); the place in the queue is lost.
    pub async fn acquire(self) -> Result<LockGuard, Error> {
        let acquiring = self.acquiring();
        let result = acquiring.within(pin!(self.wait_for_it())).await;
        acquiring.end(result)
    }

    async fn wait_for_it(self) -> Result<LockGuard, Error> {
        if self.wait == Some(Duration::ZERO) {
            return self.acquire_at_once().await;
        }
        let Self { shared, terms, wait, retry, calls_off } = self;
        let terms = terms?.checked()?;
        let home = shared.home(Operation::Acquire)?;
        let retry = retry.unwrap_or_else(|| match wait {
            Some(_) => Retry::default().unlimited(),
            None => Retry::default(),
        });
        let mut acquisition = Acquisition::new(&shared, &terms, home);
        tokio::select! {
            biased;
            () = calls_off.ended() => return Err(aborted(&terms.key)),
            // Before the attempts, which could use up the task's budget each time it is polled.
            () = Timer::after(wait.unwrap_or(DEFAULT_WAIT)) => {}
            result = acquisition.run(&retry) => return result.map(|guard| terms.received(guard)),
        }
        Err(acquisition.given_up())
    }

    async fn acquire_at_once(self) -> Result<LockGuard, Error> {
        let terms = self.terms?;
        let key = terms.key.clone();
        match (Self { terms: Ok(terms), ..self }).ask_once().await? {
            TryAcquire::Acquired(guard) => Ok(guard),
            TryAcquire::Contended(holder) => Err(contended(&key, holder)),
        }
    }

    fn acquiring(&self) -> Ongoing {
        let mode = self.terms.as_ref().map_or_else(|_| Mode::default(), |terms| terms.mode);
        telemetry::acquiring(&self.shared.clock, self.key(), mode)
    }

    /// Returns the key, if it keeps its rule.
    pub(crate) fn key(&self) -> Option<&LockKey> {
        self.terms.as_ref().ok().map(|terms| &terms.key)
    }

    /// Renews unless told otherwise.
    pub(crate) fn renewing(self) -> Self {
        self.set(Ok::<_, Error>(Renew::Auto), |terms, auto| {
            terms.renew.get_or_insert(auto);
        })
    }

    pub(crate) fn calls_off(&self) -> Scope {
        self.calls_off.clone()
    }

    /// Applies a setting; the first value that breaks its rule is the one that is reported.
    fn set<V, E: Into<Error>>(
        self,
        value: Result<V, E>,
        apply: impl FnOnce(&mut Terms, V),
    ) -> Self {
        let terms = self.terms.and_then(|mut terms| {
            apply(&mut terms, value.map_err(Into::into)?);
            Ok(terms)
        });
        Self { terms, ..self }
    }
}

/// Returns the error for a lock that somebody else holds.
pub(crate) fn contended(key: &LockKey, holder: Option<Holder>) -> Error {
    Error::new(ErrorKind::AcquisitionTimeout, Operation::Acquire).with_key(key).with_holder(holder)
}

fn aborted(key: &LockKey) -> Error {
    Error::new(ErrorKind::Aborted, Operation::Acquire).with_key(key)
}

impl std::fmt::Debug for LockBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LockBuilder")
            .field("key", &self.terms.as_ref().map(|terms| &terms.key))
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}
