use std::time::Duration;

use syncguard::{
    BootClock, BootInstant, Clock, Error, ErrorKind, Fence, LockBuilder, LockGuard, LockId,
    LockKey, LockManager, Retry, Ttl, backend::Mode,
};
use syncguard_testkit::{
    history::{Client, Event},
    random,
};
use tokio::time::{Instant, sleep};

use crate::{
    Outcome,
    grant::{Answer, Grant, PeerGrant},
    member::Member,
    peer::Peer,
};

/// How long a client that only tries pauses after each attempt, at most.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How long the TypeScript client pauses after each attempt, and how much of that is random.
const RETRY_DELAY: Duration = Duration::from_millis(50);
const RETRY_JITTER: Duration = Duration::from_millis(100);

/// The first delay of a client that waits.
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// One hold of one lock in a storm.
pub(crate) struct Hold<'a> {
    pub(crate) member: &'a Member,
    pub(crate) key: &'a LockKey,
    pub(crate) mode: Mode,
    pub(crate) ttl: Ttl,
    /// How long to wait for it, at most.
    pub(crate) wait: Duration,
    pub(crate) pause: Duration,
}

impl Hold<'_> {
    /// Waits for the lock, holds it for a moment and releases it.
    pub(crate) async fn run(&self, locks: &LockManager, peer: Option<&mut Peer>) -> Outcome<()> {
        let client = self.member.storm.client;
        if client == Client::Unlocked {
            return self.run_without_lock().await;
        }
        let (requested, wait) = (BootClock.now(), self.member.next_wait());
        self.record(requested, Event::WaitBegan { wait, client, key: self.key.clone() })?;
        let granted = match (peer, client) {
            (Some(peer), _) => self.poll_as_peer(peer).await?.map(Grant::Theirs),
            (None, Client::Polling) => self.poll(locks).await?.map(Grant::Ours),
            (None, _) => self.wait(locks).await?.map(Grant::Ours),
        };
        self.record(BootClock.now(), Event::WaitEnded { wait })?;
        match granted {
            Some(grant) => self.stay(requested, grant).await,
            None => Ok(()),
        }
    }

    /// Waits for the lock, in line where the store has one.
    async fn wait(&self, locks: &LockManager) -> Outcome<Option<LockGuard>> {
        let retry = Retry::exponential(FIRST_RETRY).unlimited();
        self.granted(self.lock(locks).wait(self.wait).retry(retry).acquire().await)
    }

    /// Tries until the lock is granted.
    async fn poll(&self, locks: &LockManager) -> Outcome<Option<LockGuard>> {
        let deadline = Instant::now() + self.wait;
        while Instant::now() < deadline {
            let outcome = self.granted(self.lock(locks).try_acquire().await)?;
            if let Some(guard) = outcome.and_then(|outcome| outcome.acquired()) {
                return Ok(Some(guard));
            }
            sleep(random::millis_below(POLL_INTERVAL)?).await;
        }
        Ok(None)
    }

    /// Tries until the lock is granted, as the TypeScript client does.
    async fn poll_as_peer<'a>(&self, peer: &'a mut Peer) -> Outcome<Option<PeerGrant<'a>>> {
        let (ttl, deadline) = (self.ttl.as_duration(), Instant::now() + self.wait);
        while Instant::now() < deadline {
            let (id, until) = (LockId::mint()?, BootClock.now() + ttl);
            if let Some(fence) = peer.acquire(self.key, id).await? {
                return Ok(Some(PeerGrant { peer, id, fence, until }));
            }
            sleep(RETRY_DELAY + random::millis_below(RETRY_JITTER)?).await;
        }
        Ok(None)
    }

    fn lock(&self, locks: &LockManager) -> LockBuilder {
        locks.lock(self.key.clone()).mode(self.mode).ttl(self.ttl)
    }

    /// Returns the success of an acquire, or `None` if it may be repeated.
    fn granted<T>(&self, result: Result<T, Error>) -> Outcome<Option<T>> {
        match result {
            Err(error) if error.is_retryable() => Ok(None),
            // Others hold the key with another number of permits, or with none.
            Err(error) if self.mode.is_shared() && error.kind() == ErrorKind::InvalidArgument => {
                Ok(None)
            }
            result => Ok(Some(result?)),
        }
    }

    async fn stay(&self, requested: BootInstant, grant: Grant<'_>) -> Outcome<()> {
        // The clock is read before the lock is checked: if the lock is held at the check, it was
        // held at that time.
        let entered = BootClock.now();
        let Some(fence) = grant.fence() else { return Ok(()) };
        let until = entered + grant.remaining();
        self.record(entered, self.entered(fence, requested, until))?;
        let mut left = entered;
        for _ in 0..random::below(20)? {
            sleep(self.pause).await;
            if random::below(20)? == 0 && grant.extend(self.ttl).await? == Answer::NotHeld {
                self.record_not_held(fence)?;
            }
            let now = BootClock.now();
            if !grant.is_valid() {
                break;
            }
            left = now;
        }
        self.record(left, Event::Left { key: self.key.clone(), fence })?;
        match grant.release().await? {
            Answer::Held => {
                self.record(BootClock.now(), Event::Released { key: self.key.clone(), fence })
            }
            Answer::NotHeld => self.record_not_held(fence),
            Answer::Unknown => Ok(()),
        }
    }

    async fn run_without_lock(&self) -> Outcome<()> {
        let entered = BootClock.now();
        let fence = Fence::new(u64::try_from(entered.since_boot().as_micros())?)?;
        let until = entered + self.ttl.as_duration();
        self.record(entered, self.entered(fence, entered, until))?;
        sleep(Duration::from_millis(5)).await;
        self.record(BootClock.now(), Event::Left { key: self.key.clone(), fence })
    }

    fn record_not_held(&self, fence: Fence) -> Outcome<()> {
        self.record(BootClock.now(), Event::NotHeld { key: self.key.clone(), fence })
    }

    fn entered(&self, fence: Fence, requested: BootInstant, until: BootInstant) -> Event {
        Event::Entered { key: self.key.clone(), fence, mode: self.mode, requested, until }
    }

    fn record(&self, at: BootInstant, event: Event) -> Outcome<()> {
        self.member.record(at, event)
    }
}
