//! Running a command under a lock.

use std::{fmt, time::Duration};

use syncguard::{
    DynBackend, ErrorKind, LockBackend, LockBuilder, Loss, ReleaseOutcome, Renew, Severity,
    Shutdown, SyncGuard,
};

use crate::{
    arguments::Run,
    exit::Exit,
    failure::Failure,
    report::{chain, say},
    signals::Signals,
    store,
    supervise::{End, OVERLAPPED, say_lost, supervise},
};

/// How long releases may go on after the command has ended.
const DRAIN: Duration = Duration::from_secs(5);

/// Waits for the lock, runs the command under it, and releases it.
pub(crate) async fn run(arguments: &Run) -> Result<Exit, Failure> {
    let mut signals = Signals::catch().map_err(Failure::Signals)?;
    let backend = tokio::select! {
        biased;
        signal = signals.next() => return Ok(Exit::signalled(signal.as_raw())),
        backend = store::open(&arguments.store) => backend?,
    };
    say_unsafe(&backend).await;
    let locks = SyncGuard::builder(backend)
        .on_release_error(|error| {
            // What is cut off at the end of the program is told there.
            if error.kind() != ErrorKind::Aborted {
                say_left(chain(error));
            }
        })
        .build();
    let exit = run_locked(&locks, arguments, &mut signals).await;
    if let Shutdown::TimedOut { .. } = locks.shutdown(DRAIN).await {
        say_left("the store does not answer");
    }
    exit
}

async fn run_locked(
    locks: &SyncGuard,
    arguments: &Run,
    signals: &mut Signals,
) -> Result<Exit, Failure> {
    let guard = tokio::select! {
        biased;
        signal = signals.next() => return Ok(Exit::signalled(signal.as_raw())),
        guard = describe(locks, arguments).acquire() => guard?,
    };
    let End::Exited(exit) = supervise(arguments, &guard, signals).await? else {
        return Ok(Exit::LOST);
    };
    match guard.release().await {
        Ok(ReleaseOutcome::NotHeld(_)) => {
            say_lost(Some(Loss::NotHeld), OVERLAPPED);
            Ok(Exit::LOST)
        }
        // Without an answer the release goes on in the background, which reports its failure.
        Ok(ReleaseOutcome::Released) | Err(_) => Ok(exit),
    }
}

/// Says which settings of the store break a promise. Where that cannot be found out, the lock is as good
/// as it was.
async fn say_unsafe(backend: &DynBackend) {
    let findings = backend.check().await.unwrap_or_default();
    for finding in findings.iter().filter(|finding| finding.severity == Severity::Unsafe) {
        say(format_args!("warning: {}: {}", finding.setting, finding.consequence));
    }
}

/// Says that the lock was not released, and why.
fn say_left(reason: impl fmt::Display) {
    say(format_args!("warning: the lock is left to its ttl: {reason}"));
}

/// Describes the lock as the arguments do.
fn describe(locks: &SyncGuard, arguments: &Run) -> LockBuilder {
    let lock = locks.lock(&arguments.key).ttl(arguments.ttl).renew(Renew::Auto);
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
