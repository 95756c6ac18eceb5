//! Running a command under a lock.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use rustix::process::Signal;
use syncguard::{
    Error, ErrorKind, LockAllBuilder, LockBuilder, LockManager, Renew, ShutdownOutcome,
};
use tokio::time::{Instant, timeout_at};

use crate::{
    arguments::{Run, Work},
    configuration::choose,
    display,
    exit::Exit,
    failure::Failure,
    held::{Held, Released},
    opening::{Wait, open},
    report::{name_keys, note, say, warn},
    signals::Signals,
    supervise::{OVERLAPPED, say_lost, supervise},
    waiting::show_holder,
};

/// How long releases may continue after the command has ended. Together with the wait of
/// [`report::flush`](crate::report::flush), it stays below a second.
const CLEAN_UP_LIMIT: Duration = Duration::from_millis(700);

/// Waits for the lock, runs the command under it, and releases it.
///
/// **Invariant:** every `await` of this program that contacts the store is in a `select!` with the
/// signals, or ends at [`CLEAN_UP_LIMIT`].
pub(crate) async fn run(mut arguments: Run) -> Result<Exit, Failure> {
    arguments.work.verbosity().choose();
    complete(&mut arguments.work)?;
    let mut signals = Signals::catch().map_err(Failure::Signals)?;
    match run_locked(&arguments, &mut signals).await {
        Err(failure) if failure.exit() == Exit::CONTENDED => {
            say(&failure);
            Ok(arguments.conflict_exit())
        }
        result => result,
    }
}

/// Adds what the arguments leave to the configuration.
pub(crate) fn complete(work: &mut Work) -> Result<(), Failure> {
    let choice = choose(&work.store)?;
    work.owner = work.owner.take().or(choice.owner);
    work.ttl = work.ttl.or(choice.ttl);
    Ok(())
}

/// Does what [`run`] describes.
pub(crate) async fn run_locked(arguments: &Run, signals: &mut Signals) -> Result<Exit, Failure> {
    if arguments.keys.len() > 1 && arguments.mode().is_shared() {
        return Err(Failure::SharedKeys);
    }
    let work = &arguments.work;
    name_keys(&arguments.keys);
    let wait = Wait::start(arguments.wait());
    let backend = tokio::select! {
        biased;
        signal = signals.terminating() => return Ok(signal.into()),
        backend = open(&work.store, work.counters(), wait) => backend?,
    };
    let failed = Arc::new(OnceLock::new());
    let locks = LockManager::builder(backend).on_release_error(keep_reason(failed.clone())).build();
    let acquired = tokio::select! {
        biased;
        signal = signals.terminating() => Err(Ok(signal.into())),
        held = acquire(&locks, arguments, wait) => held.map_err(|error| Err(Failure::from(error))),
        never = show_holder(&locks, &arguments.keys) => match never {},
    };
    let (result, held) = match acquired {
        Ok(held) => (supervise(work, &held, signals).await, Some(held)),
        Err(result) => (result, None),
    };
    let left = time_left(&locks, arguments, held.as_ref());
    // A lock that was ended by the store or the clock is not released, but cleaned up by the drop.
    let mut held = held.filter(|_| !matches!(result, Ok(Exit::Lost)));
    if arguments.keep
        && let Some(held) = held.take()
    {
        held.keep();
        note("the lock is left to its ttl");
    }
    let was_held = held.is_some();
    let cleaned = clean_up(&locks, held, signals).await;
    if let Some(reason) = cleaned.pending.clone().or_else(|| failed.get().cloned()) {
        let left = display::duration(left);
        warn(format_args!("the lock is left to its ttl, free in about {left}: {reason}"));
    }
    if was_held && cleaned.pending.is_none() && cleaned.lost.is_none() {
        note("the lock is released");
    }
    if cleaned.lost.is_some() {
        say_lost(cleaned.lost, OVERLAPPED);
        return Ok(Exit::Lost);
    }
    match (result, cleaned.signal) {
        (Ok(Exit::Code(_)), Some(signal)) => Ok(signal.into()),
        (result, _) => result,
    }
}

/// Keeps why a release failed for good, unless the program's exit cut it off.
fn keep_reason(reason: Arc<OnceLock<String>>) -> impl Fn(&Error) + Send + Sync + 'static {
    move |error| {
        if error.kind() != ErrorKind::Aborted {
            let _ = reason.set(error.to_string());
        }
    }
}

/// Returns how long the key stays taken if nothing releases it: until the last known expiry if the
/// lock is held, and otherwise for its whole ttl, because a request may be in flight.
fn time_left(locks: &LockManager, arguments: &Run, held: Option<&Held>) -> Duration {
    let ttl = arguments.work.ttl();
    let remaining = held.filter(|held| held.is_valid()).map(Held::remaining);
    let expiry = remaining.map_or(ttl.as_duration(), |remaining| remaining + ttl.margin());
    expiry + locks.capabilities().grace
}

/// The state of the locks at the end.
#[derive(Debug)]
struct CleanedUp {
    /// How a lock was lost that the store no longer had.
    lost: Option<String>,
    /// Why a release is still pending.
    pending: Option<String>,
    /// The signal that arrived meanwhile.
    signal: Option<Signal>,
}

/// Releases what is held, within the time limit.
async fn clean_up(locks: &LockManager, held: Option<Held>, signals: &mut Signals) -> CleanedUp {
    let deadline = Instant::now() + CLEAN_UP_LIMIT;
    let (mut signal, mut released) = (None, Released::default());
    if let Some(held) = held {
        // What is known at the deadline counts, although another release may not have ended.
        within(deadline, held.release(&mut released), signals, &mut signal).await;
    }
    let Released { lost, failure } = released;
    // A release without an answer continues in the background.
    let drained = within(deadline, locks.shutdown(CLEAN_UP_LIMIT), signals, &mut signal).await;
    let pending = match drained {
        Some(ShutdownOutcome::Drained) => None,
        _ => Some(failure.unwrap_or_else(|| "the store does not answer".to_owned())),
    };
    CleanedUp { lost, pending, signal }
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

/// Waits for the lock, or for all locks, as the arguments describe them.
async fn acquire(locks: &LockManager, arguments: &Run, wait: Wait) -> Result<Held, Error> {
    let owner = || arguments.work.owner.clone();
    let (ttl, wait) = (arguments.work.ttl(), wait.left());
    let held = if let [key] = arguments.keys.as_slice() {
        let mut lock = locks.lock(key).mode(arguments.mode());
        lock = lock.ttl(ttl).renew(Renew::Auto).wait(wait);
        lock = owner().into_iter().fold(lock, LockBuilder::owner);
        lock = arguments.min_hold.into_iter().fold(lock, LockBuilder::min_hold);
        lock = arguments.max_hold.into_iter().fold(lock, LockBuilder::max_hold);
        Held::One(lock.acquire().await?)
    } else {
        let mut all = locks.lock_all(&arguments.keys).ttl(ttl).renew(Renew::Auto).wait(wait);
        all = owner().into_iter().fold(all, LockAllBuilder::owner);
        all = arguments.min_hold.into_iter().fold(all, LockAllBuilder::min_hold);
        all = arguments.max_hold.into_iter().fold(all, LockAllBuilder::max_hold);
        Held::All(all.acquire().await?)
    };
    note(format_args!("the lock is held, for {ttl} unless it is renewed"));
    Ok(held)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use clap::Parser;
    use syncguard::{LockManager, backend::Capabilities};

    use super::{Wait, acquire, time_left};
    use crate::arguments::{Arguments, Verb};

    #[tokio::test]
    async fn the_time_left_is_how_long_the_store_keeps_the_lock_including_grace() {
        let arguments = ["syncguard", "run", "--key", "k", "--ttl", "1h", "--", "true"];
        let Verb::Run(arguments) = Arguments::try_parse_from(arguments).unwrap().verb else {
            unreachable!("it is what was parsed");
        };
        let locks = LockManager::new(syncguard::connect("memory:").await.unwrap());
        let whole = arguments.work.ttl().as_duration() + Capabilities::GRACE;
        assert_eq!(time_left(&locks, &arguments, None), whole);
        let requested = Instant::now();
        let held = acquire(&locks, &arguments, Wait::start(arguments.wait())).await.unwrap();
        let left = time_left(&locks, &arguments, Some(&held));
        assert!(left <= whole && left + requested.elapsed() >= whole, "{left:?}");
    }
}
