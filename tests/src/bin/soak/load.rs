use std::{
    io::Write,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use syncguard::{
    Error, ErrorKind, LockBuilder, LockGuard, LockManager, OnceOutcome, Renew, RunOutcome,
    backend::Mode,
};
use syncguard_testkit::random;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::Outcome;

const TASKS: usize = 64;
/// The keys that are locked in exclusive and in shared mode, and those that limit their holders.
const KEYS: usize = 35;
const PERMIT_KEYS: usize = 15;
const PERMITS: Mode = Mode::Shared { permits: NonZeroU32::new(3) };

/// What is not released stays for longer than anything here waits.
const TTL: Duration = Duration::from_secs(3_600);
/// The ttl of claims that are left to expire.
const CLAIM_TTL: Duration = Duration::from_millis(200);
const MAX_WAIT: Duration = Duration::from_millis(300);
const MAX_HOLD: Duration = Duration::from_millis(20);
/// One of so many holds has a ttl that ends before it, unless it is renewed.
const RENEWED_SHARE: usize = 100;
const RENEWED_HOLD: Duration = Duration::from_millis(1_500);
const RENEWED_TTL: Duration = Duration::from_secs(1);

/// One of so many futures may be dropped in flight, after a random time below one of these.
const DROP_SHARE: usize = 3;
const DROP_AFTER: [Duration; 3] =
    [Duration::from_millis(1), Duration::from_millis(10), Duration::from_millis(100)];

/// The share of the operations that must have been dropped in flight, in percent.
const MIN_DROPPED: f64 = 5.0;

/// Tasks that lock in all the ways that there are.
pub(crate) struct Load {
    locks: LockManager,
    end: Instant,
    counts: Arc<Counts>,
}

/// How often what happened.
#[derive(Default)]
struct Counts {
    begun: AtomicU64,
    dropped: AtomicU64,
    timed_out: AtomicU64,
    failed: AtomicU64,
    contended: AtomicU64,
    guards_dropped: AtomicU64,
}

impl Load {
    pub(crate) fn new(locks: LockManager, duration: Duration) -> Self {
        Self { locks, end: Instant::now() + duration, counts: Arc::default() }
    }

    /// Runs the tasks to their end.
    pub(crate) async fn run(&self) -> Outcome<()> {
        let mut tasks = JoinSet::new();
        for _ in 0..TASKS {
            let (locks, counts, end) = (self.locks.clone(), self.counts.clone(), self.end);
            tasks.spawn(async move {
                let task = Task { locks, counts };
                while Instant::now() < end {
                    task.step().await?;
                }
                Outcome::Ok(())
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(())
    }

    /// Writes what happened. Returns whether enough was dropped and enough timed out.
    pub(crate) fn report(&self, output: &mut impl Write) -> Outcome<bool> {
        let Counts { begun, dropped, timed_out, failed, contended, guards_dropped } = &*self.counts;
        let [begun, dropped, timed_out, failed, contended, guards_dropped] =
            [begun, dropped, timed_out, failed, contended, guards_dropped]
                .map(|count| count.load(Ordering::Relaxed));
        let share = 100.0 * dropped as f64 / begun.max(1) as f64;
        writeln!(output, "  {begun} operations, {dropped} dropped in flight: {share:.1} %")?;
        writeln!(
            output,
            "  {timed_out} timed out, {contended} contended, {failed} of unknown outcome or lost"
        )?;
        writeln!(output, "  {guards_dropped} guards dropped without a release")?;
        let is_enough = share >= MIN_DROPPED && timed_out > 0;
        if !is_enough {
            writeln!(output, "  too few were dropped or timed out (minimum: {MIN_DROPPED} %)")?;
        }
        Ok(is_enough)
    }
}

struct Task {
    locks: LockManager,
    counts: Arc<Counts>,
}

impl Task {
    /// Uses one lock in one way.
    async fn step(&self) -> Outcome<()> {
        if random::below(RENEWED_SHARE)? == 0 {
            return self.renew().await;
        }
        let lock = self.any_lock()?;
        match random::below(6)? {
            0 => {
                let tried = self.perhaps_dropped(lock.try_acquire()).await?;
                match tried.map(|outcome| outcome.acquired()) {
                    Some(Some(guard)) => self.hold(guard).await,
                    Some(None) => self.count(&self.counts.contended),
                    None => Ok(()),
                }
            }
            1 => {
                let time = random::millis_below(MAX_HOLD)?;
                let work = lock.run(async move |_| sleep(time).await);
                self.perhaps_dropped(work).await.map(drop)
            }
            2 => {
                let time = random::millis_below(MAX_HOLD)?;
                let work = lock.try_run(async move |_| sleep(time).await);
                match self.perhaps_dropped(work).await? {
                    Some(RunOutcome::Skipped(_)) => self.count(&self.counts.contended),
                    _ => Ok(()),
                }
            }
            3 => self.claim().await,
            _ => match self.perhaps_dropped(lock.acquire()).await? {
                Some(guard) => self.hold(guard).await,
                None => Ok(()),
            },
        }
    }

    /// Returns a lock. The first keys are more likely.
    fn any_lock(&self) -> Outcome<LockBuilder> {
        let number = random::below(KEYS + PERMIT_KEYS)?;
        let (key, mode) = match number.checked_sub(PERMIT_KEYS) {
            Some(_) => {
                let number = random::below(KEYS)?.min(random::below(KEYS)?);
                let mode = *random::one_of(&[Mode::Exclusive, Mode::Exclusive, Mode::SHARED])?;
                (format!("key-{number}"), mode)
            }
            None => (format!("permits-{number}"), PERMITS),
        };
        let wait = random::millis_below(MAX_WAIT)?;
        Ok(self.locks.lock(key).mode(mode).ttl(TTL).wait(wait).renew(Renew::Auto))
    }

    /// Holds a lock for longer than its ttl.
    async fn renew(&self) -> Outcome<()> {
        let lock = self.any_lock()?.ttl(RENEWED_TTL);
        let work = lock.run(async |_| sleep(RENEWED_HOLD).await);
        self.perhaps_dropped(work).await.map(drop)
    }

    async fn hold(&self, guard: LockGuard) -> Outcome<()> {
        sleep(random::millis_below(MAX_HOLD)?).await;
        if random::below(3)? == 0 {
            self.perhaps_dropped(guard.extend(TTL)).await?;
        }
        if random::below(4)? == 0 {
            drop(guard);
            return self.count(&self.counts.guards_dropped);
        }
        self.perhaps_dropped(guard.release()).await.map(drop)
    }

    /// Claims a key. Half of the claims are left to expire.
    async fn claim(&self) -> Outcome<()> {
        let (key, expires) = (format!("claim-{}", random::below(KEYS)?), random::below(2)? == 0);
        let ttl = if expires { CLAIM_TTL } else { TTL };
        match self.perhaps_dropped(self.locks.once(key, ttl)).await? {
            Some(OnceOutcome::First(_)) if expires => Ok(()),
            Some(OnceOutcome::First(claim)) => {
                self.perhaps_dropped(claim.release()).await.map(drop)
            }
            None => Ok(()),
            Some(OnceOutcome::Already(_)) => self.count(&self.counts.contended),
        }
    }

    /// Performs an operation, unless it is dropped in flight. Returns its result if it has one.
    async fn perhaps_dropped<T>(
        &self,
        operation: impl Future<Output = Result<T, Error>>,
    ) -> Outcome<Option<T>> {
        self.count(&self.counts.begun)?;
        let result = if random::below(DROP_SHARE)? == 0 {
            let time = random::millis_below(*random::one_of(&DROP_AFTER)?)?;
            match timeout(time, operation).await {
                Ok(result) => result,
                Err(_) => return self.count(&self.counts.dropped).map(|()| None),
            }
        } else {
            operation.await
        };
        match result {
            Ok(value) => return Ok(Some(value)),
            Err(error) if error.kind() == ErrorKind::AcquisitionTimeout => {
                self.count(&self.counts.timed_out)?
            }
            Err(error) if error.is_retryable() || error.kind() == ErrorKind::Lost => {
                self.count(&self.counts.failed)?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(None)
    }

    #[expect(clippy::unnecessary_wraps, reason = "most callers end with it")]
    fn count(&self, count: &AtomicU64) -> Outcome<()> {
        count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
