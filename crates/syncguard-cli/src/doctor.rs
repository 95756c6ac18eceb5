//! Examines a store: whether locks work in it, and are safe.

use std::{
    cmp::Reverse,
    time::{Duration, Instant, SystemTime},
};

use syncguard::{
    DynBackend, Error, LockGuard, LockKey, LockManager,
    backend::{Counters, ListRequest, LockBackend, LockRecord, WakeUp},
};
use tokio::{join, time::sleep};

use crate::{
    arguments::Doctor,
    diagnosis::{Diagnosis, Verdict},
    display::duration,
    exit::Exit,
    failure::Failure,
    store,
};

/// One key for all examinations, because its fence counter stays.
const KEY: &str = "syncguard-doctor";

/// How long another examination of the same store is waited for.
const WAIT: Duration = Duration::from_secs(10);

/// How long a waiter may take to subscribe to notifications.
const SUBSCRIPTION_LIMIT: Duration = Duration::from_secs(2);

/// The number of requests that are measured.
const REQUESTS: usize = 9;

/// A difference of the clocks from which on a client that uses its own clock takes live locks over: the
/// grace of all stores.
const MAX_SKEW_MILLIS: i128 = 1_000;

/// Examines the store, and prints what it finds.
pub(crate) async fn doctor(arguments: &Doctor) -> Result<Exit, Failure> {
    let mut diagnosis = Diagnosis::default();
    let opening = Instant::now();
    let backend = store::open(&arguments.store, Counters::FromOne).await?;
    diagnosis.add(Verdict::Ok, "store", format_args!("opened in {}", took(opening)))?;
    examine_settings(&backend, &mut diagnosis).await?;
    let other = LockManager::new(store::open(&arguments.store, Counters::FromOne).await?);
    let locks = LockManager::new(backend);
    let key = LockKey::new(KEY).map_err(Error::from)?;
    let examined = Examination { locks, other, key, diagnosis: &mut diagnosis }.run().await;
    if let Err(Interrupted::Failed(what, error)) = examined {
        diagnosis.add(Verdict::Failed, what, error)?;
    } else if let Err(Interrupted::Unprinted(failure)) = examined {
        return Err(failure);
    }
    diagnosis.conclude(arguments.strict)
}

async fn examine_settings(backend: &DynBackend, diagnosis: &mut Diagnosis) -> Result<(), Failure> {
    match backend.check().await {
        Ok(findings) if findings.is_empty() => {
            diagnosis.add(Verdict::Ok, "settings", "none breaks a guarantee")
        }
        Ok(mut findings) => {
            findings.sort_by_key(|finding| Reverse(finding.severity));
            findings.iter().try_for_each(|finding| diagnosis.add_finding(finding))
        }
        Err(error) => diagnosis.add(Verdict::Unknown, "settings", error),
    }
}

/// Why an examination ended early.
enum Interrupted {
    /// This step failed, on which the next ones depend.
    Failed(&'static str, Error),
    Unprinted(Failure),
}

impl From<Failure> for Interrupted {
    fn from(failure: Failure) -> Self {
        Self::Unprinted(failure)
    }
}

/// Names the step that failed.
fn at<T>(what: &'static str, result: Result<T, Error>) -> Result<T, Interrupted> {
    result.map_err(|error| Interrupted::Failed(what, error))
}

/// Uses locks through two connections, as two processes do.
struct Examination<'a> {
    locks: LockManager,
    other: LockManager,
    key: LockKey,
    diagnosis: &'a mut Diagnosis,
}

impl Examination<'_> {
    async fn run(mut self) -> Result<(), Interrupted> {
        self.measure_round_trip().await?;
        let guard = at("acquire", self.locks.lock(&self.key).wait(WAIT).acquire().await)?;
        let fence = at("acquire", guard.fence())?;
        self.diagnosis.add(Verdict::Ok, "acquire", format_args!("granted under fence {fence}"))?;
        self.compare_clocks().await?;
        at("extend", guard.extend("30s").await)?;
        self.diagnosis.add(Verdict::Ok, "extend", "the lock is extended")?;
        if !at("exclusion", self.other.is_locked(&self.key).await)? {
            let words = "another connection does not see the lock, so it excludes no other process";
            self.diagnosis.add(Verdict::Unsafe, "exclusion", words)?;
            at("release", guard.release().await)?;
            return Ok(());
        }
        let guard = self.hand_over(guard).await?;
        self.use_rights_of_operators().await?;
        // Released by force, unless that is not allowed.
        let _ = guard.release().await;
        Ok(())
    }

    async fn measure_round_trip(&mut self) -> Result<(), Interrupted> {
        let mut times = Vec::new();
        for _ in 0..REQUESTS {
            let start = Instant::now();
            at("look up", self.locks.is_locked(&self.key).await)?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        let (median, longest) = (times[REQUESTS / 2], times[REQUESTS - 1]);
        let words = format_args!("{median:.1?}, the median of {REQUESTS}; at most {longest:.1?}");
        Ok(self.diagnosis.add(Verdict::Ok, "round trip", words)?)
    }

    async fn compare_clocks(&mut self) -> Result<(), Interrupted> {
        let before = unix_millis();
        let record = at("look up", self.locks.lookup_raw(&self.key.clone().into()).await)?;
        let after = unix_millis();
        let Some(LockRecord { observed_at, .. }) = record else { return Ok(()) };
        let ahead = i128::from(observed_at.unix_millis()) - (before + after) / 2;
        let by = u64::try_from(ahead.unsigned_abs()).map(Duration::from_millis).unwrap_or_default();
        let direction = if ahead < 0 { "behind" } else { "ahead of" };
        let words = format!(
            "that of the store is {} {direction} that of this host, give or take {}",
            duration(by),
            duration(Duration::from_millis(
                u64::try_from(after - before).unwrap_or_default() / 2 + 1
            )),
        );
        if ahead.abs() < MAX_SKEW_MILLIS {
            return Ok(self.diagnosis.add(Verdict::Ok, "clocks", words)?);
        }
        let consequence = "locks follow the clock of the store and are safe, but not beside a client \
                           that uses its own; synchronise the clocks";
        Ok(self.diagnosis.add(
            Verdict::Warning,
            "clocks",
            format_args!("{words}: {consequence}"),
        )?)
    }

    /// Releases the lock while the other connection waits for it, which is then the holder.
    async fn hand_over(&mut self, guard: LockGuard) -> Result<LockGuard, Interrupted> {
        let waiting = async {
            let won = self.other.lock(&self.key).wait(WAIT).acquire().await;
            (won, Instant::now())
        };
        let releasing = async {
            let is_subscribed = self.is_subscribed().await;
            let start = Instant::now();
            (guard.release().await, is_subscribed, start)
        };
        let ((won, end), (released, is_subscribed, start)) = join!(waiting, releasing);
        at("release", released)?;
        let won = at("wake-up", won)?;
        self.diagnosis.add(Verdict::Ok, "release", "the lock is released")?;
        let delay = end.saturating_duration_since(start);
        let notifies = self.locks.capabilities().wake_up != WakeUp::None;
        let (verdict, how) = match (is_subscribed, notifies) {
            (true, _) => (Verdict::Ok, "a waiter was notified"),
            (false, false) => (Verdict::Ok, "a waiter polls, because this store does not notify;"),
            (false, true) => {
                (Verdict::Warning, "a waiter was not notified and polled; it had the lock")
            }
        };
        let words = format_args!("{how} {delay:.1?} after the release");
        self.diagnosis.add(verdict, "wake-up", words)?;
        Ok(won)
    }

    /// Waits until the other connection would be notified of a release, but not for long.
    async fn is_subscribed(&self) -> bool {
        let start = Instant::now();
        while start.elapsed() < SUBSCRIPTION_LIMIT {
            // First, so that the waiter has been refused.
            sleep(Duration::from_millis(20)).await;
            if self.other.backend().is_subscribed(&self.key) {
                return true;
            }
        }
        false
    }

    /// Tries what `list` and `release --force` do. Locks work without these rights.
    async fn use_rights_of_operators(&mut self) -> Result<(), Interrupted> {
        match self.locks.list(&ListRequest::new(KEY)).await {
            Ok(_) => self.diagnosis.add(Verdict::Ok, "list", "the locks can be listed")?,
            Err(error) => self.diagnosis.add(Verdict::Warning, "list", error)?,
        }
        match self.locks.force_release(&self.key).await {
            Ok(_) => self.diagnosis.add(Verdict::Ok, "release by force", "the lock was ended")?,
            Err(error) => self.diagnosis.add(Verdict::Warning, "release by force", error)?,
        }
        Ok(())
    }
}

fn took(start: Instant) -> String {
    format!("{:.1?}", start.elapsed())
}

fn unix_millis() -> i128 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| i128::try_from(now.as_millis()).unwrap_or(i128::MAX))
}
