//! A timer that outlives the runtime on which it was first polled, and does not require one.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    runtime::{Handle, Id},
    task::coop::{Unconstrained, unconstrained},
    time::{Instant, Sleep, sleep_until},
};

use super::alarm::Alarm;

/// Completes when its duration has passed.
///
/// A [`Sleep`] belongs to the runtime that polls it first, and panics if it is polled after that
/// runtime was shut down. A guard may outlive the runtime on which its lock was acquired, so this
/// timer belongs to its current poller: in a runtime it is a timer of that runtime, and is created
/// again when it is polled in another one. Outside every runtime, it is an [`Alarm`].
///
/// Nothing is set up before the first poll: a request that completes immediately costs no timer.
pub(crate) struct Timer {
    /// `None` if the duration is longer than the clock can count: the timer never completes.
    deadline: Option<Instant>,
    armed: Armed,
}

enum Armed {
    Not,
    // Unconstrained, because a concurrent future may use up the budget of the task in every poll.
    In(Id, Pin<Box<Unconstrained<Sleep>>>),
    Outside(Alarm),
}

impl Timer {
    pub(crate) fn after(duration: Duration) -> Self {
        Self { deadline: Instant::now().checked_add(duration), armed: Armed::Not }
    }

    pub(crate) fn at(deadline: Instant) -> Self {
        Self { deadline: Some(deadline), armed: Armed::Not }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        match (Handle::try_current(), &mut self.armed) {
            (Ok(here), Armed::In(runtime, sleep)) if here.id() == *runtime => {
                sleep.as_mut().poll(context)
            }
            (Ok(here), armed) => {
                let mut sleep = Box::pin(unconstrained(sleep_until(deadline)));
                let polled = sleep.as_mut().poll(context);
                *armed = Armed::In(here.id(), sleep);
                polled
            }
            (Err(_), Armed::Outside(alarm)) => alarm.poll(context),
            (Err(_), armed) => {
                let mut alarm = Alarm::new(deadline.into_std());
                let polled = alarm.poll(context);
                *armed = Armed::Outside(alarm);
                polled
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        sync::{Arc, mpsc},
        task::{Context, Poll, Wake, Waker},
        time::{Duration, Instant},
    };

    use super::Timer;

    const SHORT: Duration = Duration::from_millis(20);

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// Sends a message for each wake-up.
    struct WakeSender(mpsc::Sender<()>);

    impl Wake for WakeSender {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send(());
        }
    }

    /// Drives a future on this thread, outside every runtime.
    fn drive<F: Future>(future: F) -> F::Output {
        let (sender, woken) = mpsc::channel();
        let waker = Waker::from(Arc::new(WakeSender(sender)));
        let mut future = pin!(future);
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(output) => return output,
                Poll::Pending => woken.recv().unwrap(),
            }
        }
    }

    #[test]
    fn it_completes_outside_every_runtime_and_not_before_its_time() {
        let start = Instant::now();
        drive(async {
            let (long, short) = (Timer::after(SHORT * 2), Timer::after(SHORT));
            tokio::join!(long, short);
        });
        assert!(start.elapsed() >= SHORT * 2);
    }

    #[test]
    fn it_completes_on_another_runtime_after_its_own_was_shut_down() {
        let (first, second) = (runtime(), runtime());
        let mut timer = Timer::after(SHORT);
        first.block_on(async {
            assert!(poll_once(&mut timer).await.is_pending());
        });
        drop(first);
        second.block_on(&mut timer);
        let mut timer = Timer::after(SHORT);
        second.block_on(async { assert!(poll_once(&mut timer).await.is_pending()) });
        drop(second);
        drive(&mut timer);
    }

    async fn poll_once(timer: &mut Timer) -> Poll<()> {
        let mut timer = pin!(timer);
        std::future::poll_fn(|context| Poll::Ready(timer.as_mut().poll(context))).await
    }

    #[test]
    fn the_longest_duration_never_completes() {
        runtime().block_on(async {
            let timer = tokio::time::timeout(SHORT, Timer::after(Duration::MAX));
            assert!(timer.await.is_err());
        });
    }
}
