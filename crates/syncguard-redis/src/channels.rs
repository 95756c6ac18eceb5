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
    news: Arc<Notify>,
}

/// The progress of the subscription to a channel.
///
/// Each reconnect begins a new count, so that an answer that belongs to the previous connection
/// confirms nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Wanted,
    Asked { count: u64 },
    Confirmed,
}

/// A registration as a waiter on a channel.
pub(crate) struct Seat<'a> {
    channels: &'a Channels,
    pub(crate) channel: String,
    pub(crate) news: Arc<Notify>,
}

impl<'a> Seat<'a> {
    pub(crate) fn take(channels: &'a Channels, channel: String) -> Self {
        let mut open = channels.lock();
        let entry = open.entry(channel.clone()).or_insert_with(|| Channel {
            waiting: 0,
            state: State::Wanted,
            left_at: Instant::now(),
            news: Arc::default(),
        });
        entry.waiting += 1;
        let news = entry.news.clone();
        Self { channels, channel, news }
    }
}

impl Drop for Seat<'_> {
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
    pub(crate) fn take_wanted(&self, count: u64) -> Vec<String> {
        let mut open = self.lock();
        let wanted = open.iter_mut().filter(|(_, channel)| channel.state == State::Wanted);
        wanted
            .map(|(name, channel)| {
                channel.state = State::Asked { count };
                name.clone()
            })
            .collect()
    }

    /// Records the end of an attempt to subscribe: a success wakes the waiters, a failure is
    /// retried.
    pub(crate) fn asked(&self, channel: &str, count: u64, confirmed: bool) {
        if let Some(channel) = self.lock().get_mut(channel)
            && channel.state == (State::Asked { count })
        {
            channel.state = if confirmed { State::Confirmed } else { State::Wanted };
            if confirmed {
                channel.news.notify_waiters();
            }
        }
    }

    /// Treats all subscriptions as lost.
    pub(crate) fn want_all(&self) {
        for channel in self.lock().values_mut() {
            channel.state = State::Wanted;
        }
    }

    pub(crate) fn tell(&self, channel: &str) {
        if let Some(channel) = self.lock().get(channel) {
            channel.news.notify_waiters();
        }
    }

    pub(crate) fn tell_all(&self) {
        for channel in self.lock().values() {
            channel.news.notify_waiters();
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

    use super::{Channels, Seat, State};

    #[tokio::test]
    async fn messages_that_were_missed_wake_everybody() {
        let channels = Channels::default();
        let seats = ["a", "b", "b"].map(|name| Seat::take(&channels, name.to_owned()));
        let mut news: Vec<_> =
            seats.iter().map(|seat| Box::pin(seat.news.clone().notified_owned())).collect();
        for news in &mut news {
            news.as_mut().enable();
        }
        channels.tell_all();
        for news in news {
            news.await;
        }
    }

    #[tokio::test]
    async fn an_answer_of_the_connection_before_confirms_nothing() {
        let channels = Channels::default();
        let seat = Seat::take(&channels, "a".to_owned());
        let mut news = Box::pin(seat.news.notified());
        news.as_mut().enable();
        assert_eq!(channels.take_wanted(0), ["a"]);
        channels.want_all();
        assert_eq!(channels.take_wanted(1), ["a"]);
        channels.asked("a", 0, true);
        assert_eq!(channels.lock()["a"].state, State::Asked { count: 1 });
        assert!(
            poll_fn(|context| Poll::Ready(news.as_mut().poll(context).is_pending())).await,
            "nothing is confirmed"
        );
        channels.asked("a", 1, true);
        news.await;
    }
}
