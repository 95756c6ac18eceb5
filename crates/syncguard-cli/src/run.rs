//! Running a command under a lock.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use rustix::process::Signal;
use syncguard::{
    DynBackend, Error, ErrorKind, LockBuilder, LockGuard, LockManager, Loss, ReleaseOutcome, Renew,
    ShutdownOutcome,
    backend::{LockBackend, Severity},
};
use tokio::time::{Instant, timeout_at};

use crate::{
    arguments::Run,
    display,
    exit::Exit,
    failure::Failure,
    report::{chain, say},
    signals::Signals,
    store,
    supervise::{OVERLAPPED, say_lost, supervise},
};

/// How long releases may continue after the command has ended. Together with the wait of
/// [`report::flush`](crate::report::flush), it stays below a second.
const CLEAN_UP_LIMIT: Duration = Duration::from_millis(700);

/// Waits for the lock, runs the command under it, and releases it.
///
/// **Invariant:** every `await` of this program that contacts the store is in a `select!` with the
/// signals, or ends at [`CLEAN_UP_LIMIT`].
pub(crate) async fn run(arguments: &Run) -> Result<Exit, Failure> {
    let mut signals = Signals::catch().map_err(Failure::Signals)?;
    let backend = tokio::select! {
        biased;
        signal = signals.terminating() => return Ok(signal.into()),
        backend = open(arguments) => backend?,
    };
    let failed = Arc::new(OnceLock::new());
    let locks = LockManager::builder(backend).on_release_error(keep_reason(failed.clone())).build();
    let acquired = tokio::select! {
        biased;
        signal = signals.terminating() => Err(Ok(signal.into())),
        guard = describe(&locks, arguments).acquire() => {
            guard.map_err(|error| Err(Failure::from(error)))
        }
    };
    let (result, guard) = match acquired {
        Ok(guard) => (supervise(arguments, &guard, &mut signals).await, Some(guard)),
        Err(result) => (result, None),
    };
    let left = time_left(&locks, arguments, guard.as_ref());
    // A lock that was ended by the store or the clock is not released, but cleaned up by the drop.
    let guard = guard.filter(|_| !matches!(result, Ok(Exit::LOST)));
    let cleaned = clean_up(&locks, guard, &mut signals).await;
    if let Some(reason) = cleaned.pending.or_else(|| failed.get().cloned()) {
        let left = display::duration(left);
        say(format_args!("warning: the lock is left to its ttl, free in about {left}: {reason}"));
    }
    if cleaned.was_lost {
        say_lost(Some(Loss::NotHeld), OVERLAPPED);
        return Ok(Exit::LOST);
    }
    match (result, cleaned.signal) {
        (Ok(exit @ Exit::Code(_)), Some(signal)) if exit != Exit::LOST => Ok(signal.into()),
        (result, _) => result,
    }
}

/// Opens the store, and reports which of its settings would break a guarantee. If that cannot be
/// checked, the lock is used nevertheless.
async fn open(arguments: &Run) -> Result<DynBackend, Failure> {
    let backend = store::open(&arguments.store).await?;
    let findings = backend.check().await.unwrap_or_default();
    for finding in findings.iter().filter(|finding| finding.severity == Severity::Unsafe) {
        say(format_args!("warning: {}: {}", finding.setting, finding.consequence));
    }
    Ok(backend)
}

/// Keeps why a release failed for good, unless the program's exit cut it off.
fn keep_reason(reason: Arc<OnceLock<String>>) -> impl Fn(&Error) + Send + Sync + 'static {
    move |error| {
        if error.kind() != ErrorKind::Aborted {
            let _ = reason.set(chain(error));
        }
    }
}

/// Returns how long the key stays taken if nothing releases it: until the last known expiry if the
/// lock is held, and otherwise for its whole ttl, because a request may be in flight.
fn time_left(locks: &LockManager, arguments: &Run, guard: Option<&LockGuard>) -> Duration {
    let ttl = arguments.ttl;
    let remaining = guard.filter(|guard| guard.is_valid()).map(|guard| guard.remaining());
    let expiry = remaining.map_or(ttl.as_duration(), |remaining| remaining + ttl.margin());
    expiry + locks.capabilities().grace
}

/// The state of the locks at the end.
#[derive(Debug)]
struct CleanedUp {
    /// The store no longer had the lock.
    was_lost: bool,
    /// Why a release is still pending.
    pending: Option<String>,
    /// The signal that arrived meanwhile.
    signal: Option<Signal>,
}

/// Releases what is held, within the time limit.
async fn clean_up(
    locks: &LockManager,
    guard: Option<LockGuard>,
    signals: &mut Signals,
) -> CleanedUp {
    let deadline = Instant::now() + CLEAN_UP_LIMIT;
    let mut signal = None;
    let released = match guard {
        Some(guard) => within(deadline, guard.release(), signals, &mut signal).await,
        None => None,
    };
    let (was_lost, failure) = match released {
        Some(Ok(outcome)) => (matches!(outcome, ReleaseOutcome::NotHeld(_)), None),
        Some(Err(error)) => (false, Some(chain(&error))),
        None => (false, None),
    };
    // A release without an answer continues in the background.
    let drained = within(deadline, locks.shutdown(CLEAN_UP_LIMIT), signals, &mut signal).await;
    let pending = match drained {
        Some(ShutdownOutcome::Drained) => None,
        _ => Some(failure.unwrap_or_else(|| "the store does not answer".to_owned())),
    };
    CleanedUp { was_lost, pending, signal }
}

/// Waits for `work` until `deadline`, and keeps the signal that arrives meanwhile.
///
/// A signal does not cut the wait short. It decides how the program ends, which is soon enough; and
/// a signal that is sent twice, as `timeout` does, leaves no lock behind.
async fn within<T>(
    deadline: Instant,
    work: impl Future<Output = T>,
    signals: &mut Signals,
    arrived: &mut Option<Signal>,
) -> Option<T> {
    let work = timeout_at(deadline, work);
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            signal = signals.ending() => *arrived = Some(signal),
            done = &mut work => return done.ok(),
        }
    }
}

/// Describes the lock as the arguments specify it.
fn describe(locks: &LockManager, arguments: &Run) -> LockBuilder {
    let lock = locks.lock(&arguments.key).mode(arguments.mode());
    let lock = lock.ttl(arguments.ttl).renew(Renew::Auto);
    let lock = lock.wait(arguments.wait());
    let lock = match &arguments.owner {
        Some(owner) => lock.owner(owner.clone()),
        None => lock,
    };
    match arguments.max_hold {
        Some(max_hold) => lock.max_hold(max_hold),
        None => lock,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use clap::Parser;
    use syncguard::{LockManager, backend::Capabilities};

    use super::{describe, time_left};
    use crate::arguments::{Arguments, Verb};

    #[tokio::test]
    async fn the_time_left_is_how_long_the_store_keeps_the_lock_including_grace() {
        let arguments = ["syncguard", "run", "--key", "k", "--ttl", "1h", "--", "true"];
        let Verb::Run(arguments) = Arguments::try_parse_from(arguments).unwrap().verb else {
            unreachable!("it is what was parsed");
        };
        let locks = LockManager::new(syncguard::connect("memory:").await.unwrap());
        let whole = arguments.ttl.as_duration() + Capabilities::GRACE;
        assert_eq!(time_left(&locks, &arguments, None), whole);
        let requested = Instant::now();
        let guard = describe(&locks, &arguments).acquire().await.unwrap();
        let left = time_left(&locks, &arguments, Some(&guard));
        assert!(left <= whole && left + requested.elapsed() >= whole, "{left:?}");
    }
}
