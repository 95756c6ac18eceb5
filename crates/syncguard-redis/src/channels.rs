//! The channels that have waiters.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// How long a channel stays subscribed after its last waiter has left. A waiter for a contended
/// lock usually returns soon.
const LINGER: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(crate) struct Channels {
    open: Mutex<HashMap<String, Channel>>,
    /// Notifies the listener that a channel is wanted.
    pub(crate) wanted: Notify,
}

struct Channel {
    waiting: usize,
    state: State,
    left_at: Instant,
    released: Arc<Notify>,
}

/// The progress of the subscription to a channel.
///
/// Each reconnect begins a new epoch, so that a reply on the previous connection confirms nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Wanted,
    Requested { epoch: u64 },
    Confirmed,
}

/// A registration as a waiter on a channel.
pub(crate) struct Waiter<'a> {
    channels: &'a Channels,
    pub(crate) channel: String,
    pub(crate) released: Arc<Notify>,
}

impl<'a> Waiter<'a> {
    pub(crate) fn register(channels: &'a Channels, channel: String) -> Self {
        let mut open = channels.lock();
        let entry = open.entry(channel.clone()).or_insert_with(|| Channel {
            waiting: 0,
            state: State::Wanted,
            left_at: Instant::now(),
            released: Arc::default(),
        });
        entry.waiting += 1;
        let released = entry.released.clone();
        Self { channels, channel, released }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if let Some(channel) = self.channels.lock().get_mut(&self.channel) {
            channel.waiting -= 1;
            channel.left_at = Instant::now();
        }
    }
}

impl Channels {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Channel>> {
        // No code panics while the mutex is held.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_wanted(&self, channel: &str) -> bool {
        self.lock().get(channel).is_some_and(|channel| channel.state == State::Wanted)
    }

    /// Returns the channels that have not been requested yet, and records them as requested now.
    pub(crate) fn take_wanted(&self, epoch: u64) -> Vec<String> {
        let mut open = self.lock();
        let wanted = open.iter_mut().filter(|(_, channel)| channel.state == State::Wanted);
        wanted
            .map(|(name, channel)| {
                channel.state = State::Requested { epoch };
                name.clone()
            })
            .collect()
    }

    /// Records the end of an attempt to subscribe: a success wakes the waiters, a failure is
    /// retried.
    pub(crate) fn finish_attempt(&self, channel: &str, epoch: u64, confirmed: bool) {
        if let Some(channel) = self.lock().get_mut(channel)
            && channel.state == (State::Requested { epoch })
        {
            channel.state = if confirmed { State::Confirmed } else { State::Wanted };
            if confirmed {
                channel.released.notify_waiters();
            }
        }
    }

    /// Treats all subscriptions as lost.
    pub(crate) fn reset_all(&self) {
        for channel in self.lock().values_mut() {
            channel.state = State::Wanted;
        }
    }

    pub(crate) fn notify(&self, channel: &str) {
        if let Some(channel) = self.lock().get(channel) {
            channel.released.notify_waiters();
        }
    }

    pub(crate) fn notify_all(&self) {
        for channel in self.lock().values() {
            channel.released.notify_waiters();
        }
    }

    /// Removes the channels that have had no waiter for a while.
    pub(crate) fn sweep(&self) -> Vec<String> {
        let mut channels = self.lock();
        let idle = |channel: &Channel| channel.waiting == 0 && channel.left_at.elapsed() > LINGER;
        channels.extract_if(|_, channel| idle(channel)).map(|(name, _)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Future, poll_fn},
        task::Poll,
    };

    use super::{Channels, State, Waiter};

    #[tokio::test]
    async fn missed_messages_wake_all_waiters() {
        let channels = Channels::default();
        let waiters = ["a", "b", "b"].map(|name| Waiter::register(&channels, name.to_owned()));
        let mut notifications: Vec<_> = waiters
            .iter()
            .map(|waiter| Box::pin(waiter.released.clone().notified_owned()))
            .collect();
        for notification in &mut notifications {
            notification.as_mut().enable();
        }
        channels.notify_all();
        for notification in notifications {
            notification.await;
        }
    }

    #[tokio::test]
    async fn a_reply_on_the_previous_connection_confirms_nothing() {
        let channels = Channels::default();
        let waiter = Waiter::register(&channels, "a".to_owned());
        let mut notification = Box::pin(waiter.released.notified());
        notification.as_mut().enable();
        assert_eq!(channels.take_wanted(0), ["a"]);
        channels.reset_all();
        assert_eq!(channels.take_wanted(1), ["a"]);
        channels.finish_attempt("a", 0, true);
        assert_eq!(channels.lock()["a"].state, State::Requested { epoch: 1 });
        assert!(
            poll_fn(|context| Poll::Ready(notification.as_mut().poll(context).is_pending())).await,
            "nothing is confirmed"
        );
        channels.finish_attempt("a", 1, true);
        notification.await;
    }
}
