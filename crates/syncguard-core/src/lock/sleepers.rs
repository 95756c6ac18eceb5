//! Those that sleep until a time on the boot clock, and the task that wakes them after a suspension.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use tokio::{
    runtime::{Handle, Id},
    sync::{Notify, futures::Notified},
    time::{Instant, sleep},
};

use super::timer::Timer;
use crate::{BootInstant, Clock};

/// How often the boot clock is compared with the clock of the timers. Timers stand still while the
/// machine is suspended, and the boot clock does not, so this is the longest delay after resuming
/// until the sleepers are woken.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The smallest suspension after which the sleepers are woken. Shorter ones add up.
const MIN_SUSPENSION: Duration = Duration::from_millis(10);

/// The futures that sleep until a time on the boot clock.
///
/// Each has a timer for the whole time, and one task on each runtime watches the clocks for all of
/// them, as long as there are any. When the boot clock has advanced further than the timers, it wakes
/// all sleepers, and they read their clock again.
///
/// **Invariant:** a sleeper reads the clock again within [`CHECK_INTERVAL`] after resuming, provided
/// that its runtime is driven. It [joins](Self::join) before it reads the clock. If it reads the clock
/// after the suspension, it sees it. Otherwise it has joined before the suspension. The watcher
/// compares with a reading of the clocks that was made no later than the join or was followed by a
/// check that found no difference, so its next check wakes the sleeper, which is registered from the
/// join on. A watcher ends only if it finds no sleeper under the mutex, and the next sleeper then finds
/// no watcher.
///
/// A sleeper that is polled on another runtime than before wakes up, and joins again there: the
/// first one may no longer be driven. Outside every runtime there is no watcher, and a sleeper wakes
/// up every [`CHECK_INTERVAL`].
#[derive(Default)]
pub(crate) struct Sleepers {
    state: Mutex<State>,
    woken: Notify,
}

#[derive(Default)]
struct State {
    count: usize,
    /// The runtimes that have a watcher.
    watched: Vec<Id>,
}

impl Sleepers {
    /// Registers a sleeper, which must read the clock after this call.
    pub(crate) fn join(self: &Arc<Self>, clock: &Arc<dyn Clock>) -> Sleeper<'_> {
        let woken = self.woken.notified();
        let runtime = Handle::try_current().ok();
        let mut state = self.lock();
        state.count += 1;
        let unwatched = runtime.as_ref().filter(|here| !state.watched.contains(&here.id()));
        state.watched.extend(unwatched.map(Handle::id));
        drop(state);
        if let Some(here) = unwatched {
            let (sleepers, clock, runtime) = (self.clone(), clock.clone(), here.id());
            here.spawn(Watcher { sleepers, clock, runtime, listed: true }.run());
        }
        Sleeper { joined: Joined(self), woken, runtime: runtime.map(|here| here.id()) }
    }

    /// Wakes all sleepers, so that they read their clock again.
    pub(crate) fn wake(&self) {
        self.woken.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is locked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a sleeper until it is dropped.
struct Joined<'a>(&'a Sleepers);

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        self.0.lock().count -= 1;
    }
}

/// One that has joined the [`Sleepers`].
#[must_use = "it wakes up only while it sleeps"]
pub(crate) struct Sleeper<'a> {
    joined: Joined<'a>,
    woken: Notified<'a>,
    /// The runtime on which it has joined.
    runtime: Option<Id>,
}

impl Sleeper<'_> {
    /// Sleeps for this long, or until it is woken; the caller reads its clock again in any case.
    pub(crate) async fn sleep(self, duration: Duration) {
        let Self { joined: _joined, woken, runtime } = self;
        let duration = if runtime.is_some() { duration } else { duration.min(CHECK_INTERVAL) };
        let (mut woken, mut timer) = (pin!(woken), pin!(Timer::after(duration)));
        poll_fn(|context| {
            let here = Handle::try_current().ok().map(|here| here.id());
            match here == runtime && woken.as_mut().poll(context).is_pending() {
                true => timer.as_mut().poll(context),
                false => Poll::Ready(()),
            }
        })
        .await;
    }
}

/// Watches the clocks on behalf of all sleepers on one runtime.
struct Watcher {
    sleepers: Arc<Sleepers>,
    clock: Arc<dyn Clock>,
    runtime: Id,
    /// Whether it is listed among the watchers.
    listed: bool,
}

impl Watcher {
    fn run(mut self) -> impl Future<Output = ()> + Send {
        // Read by the sleeper that starts the watcher, and not by the task later.
        let mut clocks = Clocks::read(&*self.clock);
        async move {
            loop {
                sleep(CHECK_INTERVAL).await;
                if clocks.differ(Clocks::read(&*self.clock)) {
                    self.sleepers.wake();
                }
                if self.has_ended() {
                    return;
                }
            }
        }
    }

    /// Ends the watcher if there are no sleepers.
    fn has_ended(&mut self) -> bool {
        let mut state = self.sleepers.lock();
        if state.count == 0 {
            self.listed = false;
            state.watched.retain(|id| *id != self.runtime);
        }
        !self.listed
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Dropped with its runtime. The id may be that of another runtime later.
        if self.listed {
            self.sleepers.lock().watched.retain(|id| *id != self.runtime);
        }
    }
}

/// The boot clock and that of the timers, at one moment.
struct Clocks {
    timers: Instant,
    boot: BootInstant,
}

impl Clocks {
    fn read(clock: &dyn Clock) -> Self {
        Self { timers: Instant::now(), boot: clock.now() }
    }

    /// Returns whether one clock has advanced further than the other, and compares with `now` the next
    /// time. The timers are ahead if the boot clock is one for tests that stands still.
    fn differ(&mut self, now: Self) -> bool {
        let (boot, timers) = (now.boot.since(self.boot), now.timers - self.timers);
        let differ = boot.abs_diff(timers) >= MIN_SUSPENSION;
        if differ {
            *self = now;
        }
        differ
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Future, poll_fn},
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        },
        task::{Context, Poll, Waker},
        time::Duration,
    };

    use tokio::{
        runtime::{Builder, Handle, Runtime},
        time::{Instant, sleep, timeout},
    };

    use super::{CHECK_INTERVAL, Clocks, MIN_SUSPENSION, Sleepers};
    use crate::{BootInstant, Clock};

    const LONG: Duration = Duration::from_secs(3_600);
    const MOMENT: Duration = Duration::from_millis(1);

    /// Follows the clock of the timers, except while the machine is suspended.
    #[derive(Debug)]
    struct TestClock {
        start: Instant,
        suspended_millis: AtomicU64,
    }

    impl TestClock {
        fn new() -> Arc<Self> {
            Arc::new(Self { start: Instant::now(), suspended_millis: AtomicU64::new(0) })
        }

        fn suspend(&self, duration: Duration) {
            let millis = u64::try_from(duration.as_millis()).unwrap();
            self.suspended_millis.fetch_add(millis, Ordering::SeqCst);
        }
    }

    impl Clock for TestClock {
        fn now(&self) -> BootInstant {
            let suspended = Duration::from_millis(self.suspended_millis.load(Ordering::SeqCst));
            BootInstant::from_boot(self.start.elapsed() + suspended)
        }
    }

    fn sleepers() -> (Arc<Sleepers>, Arc<TestClock>, Arc<dyn Clock>) {
        let clock = TestClock::new();
        (Arc::default(), clock.clone(), clock)
    }

    async fn poll_once(future: impl Future<Output = ()>) -> Poll<()> {
        let mut future = pin!(future);
        poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
    }

    fn watchers(sleepers: &Sleepers) -> usize {
        sleepers.lock().watched.len()
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleeper_sleeps_until_its_time_and_wakes_up_earlier_after_a_suspension() {
        let (sleepers, test_clock, clock) = sleepers();
        let start = Instant::now();
        sleepers.join(&clock).sleep(LONG).await;
        assert!(start.elapsed() >= LONG);
        let resume = async {
            sleep(CHECK_INTERVAL * 5 / 2).await;
            test_clock.suspend(MIN_SUSPENSION);
            Instant::now()
        };
        let (resumed, ()) = tokio::join!(resume, sleepers.join(&clock).sleep(LONG));
        assert!(resumed.elapsed() <= CHECK_INTERVAL + MOMENT);
    }

    /// The watcher's task is first polled after the suspension.
    #[tokio::test(start_paused = true)]
    async fn a_suspension_right_after_the_clock_was_read_wakes_the_sleeper() {
        let (sleepers, test_clock, clock) = sleepers();
        let sleeper = sleepers.join(&clock);
        test_clock.suspend(LONG);
        timeout(CHECK_INTERVAL + MOMENT, sleeper.sleep(LONG)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn one_task_watches_for_all_sleepers_and_ends_after_the_last() {
        let (sleepers, _, clock) = sleepers();
        let alive = || Handle::current().metrics().num_alive_tasks();
        let before = alive();
        let joined = [(); 3].map(|()| sleepers.join(&clock));
        assert_eq!((alive() - before, watchers(&sleepers)), (1, 1));
        sleep(CHECK_INTERVAL * 3).await;
        assert_eq!(alive() - before, 1);
        drop(joined);
        sleep(CHECK_INTERVAL + MOMENT).await;
        assert_eq!((alive() - before, watchers(&sleepers)), (0, 0));
        let _joined = sleepers.join(&clock);
        assert_eq!(watchers(&sleepers), 1);
    }

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn a_sleeper_that_is_polled_on_another_runtime_wakes_up_and_joins_there() {
        let (sleepers, _, clock) = sleepers();
        let (first, second) = (runtime(), runtime());
        let mut sleep = Box::pin(first.block_on(async { sleepers.join(&clock).sleep(LONG) }));
        assert!(first.block_on(poll_once(sleep.as_mut())).is_pending());
        assert!(second.block_on(poll_once(sleep.as_mut())).is_ready());
        let _joined = second.block_on(async { sleepers.join(&clock) });
        assert_eq!(watchers(&sleepers), 2);
        drop(first);
        assert_eq!(watchers(&sleepers), 1, "the watcher of the first has ended with it");
    }

    #[test]
    fn outside_every_runtime_a_sleeper_sleeps_for_a_short_time() {
        let (sleepers, _, clock) = sleepers();
        let mut sleep = pin!(sleepers.join(&clock).sleep(LONG));
        let mut context = Context::from_waker(Waker::noop());
        assert!(sleep.as_mut().poll(&mut context).is_pending());
        assert_eq!(watchers(&sleepers), 0);
        std::thread::sleep(CHECK_INTERVAL);
        assert!(sleep.as_mut().poll(&mut context).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn short_suspensions_add_up() {
        let (_, test_clock, clock) = sleepers();
        let mut clocks = Clocks::read(&*clock);
        for differ in [false, true, false, true, false] {
            test_clock.suspend(MIN_SUSPENSION * 3 / 5);
            sleep(CHECK_INTERVAL).await;
            assert_eq!(clocks.differ(Clocks::read(&*clock)), differ);
        }
    }
}
