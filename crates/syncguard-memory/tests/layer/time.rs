use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use syncguard_core::{BootInstant, Clock};
use tokio::time::Instant;

/// A boot clock that follows tokio's paused clock, and can be advanced on its own, like a boot
/// clock while the machine sleeps and timers stand still.
#[derive(Clone, Debug)]
pub(super) struct VirtualClock {
    start: Instant,
    asleep_millis: Arc<AtomicU64>,
}

impl VirtualClock {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), asleep_millis: Arc::default() }
    }

    pub(super) fn shared(&self) -> Arc<dyn Clock> {
        Arc::new(self.clone())
    }

    /// Returns the time since the start on tokio's clock, which timers use.
    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Suspends the machine: only the boot clock advances.
    pub(super) fn suspend(&self, duration: Duration) {
        let millis = u64::try_from(duration.as_millis()).unwrap();
        self.asleep_millis.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> BootInstant {
        let asleep = Duration::from_millis(self.asleep_millis.load(Ordering::SeqCst));
        // Not from zero, so that nothing depends on it.
        BootInstant::from_boot(secs(1_000) + self.start.elapsed() + asleep)
    }
}

pub(super) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(super) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The resolution of tokio's timers.
pub(super) const TICK: Duration = millis(1);

/// Asserts that something happened when it should have, to the resolution of the timers.
#[track_caller]
pub(super) fn assert_at(happened: Duration, due: Duration) {
    assert!(due <= happened && happened <= due + TICK, "at {happened:?} instead of {due:?}");
}

/// Asserts that things happened when they should have.
#[track_caller]
pub(super) fn assert_all_at(happened: &[Duration], due: &[Duration]) {
    assert_eq!(happened.len(), due.len(), "{happened:?} instead of {due:?}");
    for (happened, due) in happened.iter().zip(due) {
        assert_at(*happened, *due);
    }
}
