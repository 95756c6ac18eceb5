//! The channels that have waiters.

use std::{
    collections::VecDeque,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use syncguard_core::backend::{LINGER, Subscription, Subscriptions};
use tokio::sync::Notify;

#[derive(Default)]
pub(crate) struct Channels {
    open: Mutex<Open>,
    /// Notifies the listener that a channel is wanted.
    pub(crate) wanted: Notify,
}

#[derive(Default)]
struct Open {
    channels: Subscriptions<String, State>,
    has_listener: bool,
    /// Every channel in the state `Wanted`, and perhaps some that are requested or gone. It saves the
    /// listener from a search among all channels after each message.
    wanted: VecDeque<String>,
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

impl Channels {
    fn lock(&self) -> MutexGuard<'_, Open> {
        // No code panics while the mutex is held.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Subscribes a waiter to the releases on a channel.
    pub(crate) fn subscribe(&self, channel: String) -> Subscription {
        let Open { channels, wanted, .. } = &mut *self.lock();
        channels.subscribe(channel.clone(), || {
            wanted.push_back(channel);
            State::Wanted
        })
    }

    /// Registers a listener for the channels. Returns `false` if there already was one.
    pub(crate) fn register_listener(&self) -> bool {
        !mem::replace(&mut self.lock().has_listener, true)
    }

    /// Deregisters the listener if no channel is left to listen to.
    ///
    /// **Invariant:** no waiter is without a listener. A waiter subscribes first, and then registers
    /// a listener, both under the lock that is taken here. If it subscribes before this, the listener
    /// stays. If it subscribes after this, it finds none registered, and starts another one, which
    /// subscribes to the channel at the server. Until that is confirmed, the channel counts as not
    /// subscribed, as with a first listener, and the waiter is woken when it is.
    pub(crate) fn deregister_listener(&self) -> bool {
        let mut open = self.lock();
        let has_channels = open.channels.iter().next().is_some();
        open.has_listener = has_channels;
        !has_channels
    }

    pub(crate) fn is_wanted(&self, channel: &str) -> bool {
        self.lock().channels.get(channel).is_some_and(|channel| channel.state == State::Wanted)
    }

    pub(crate) fn is_confirmed(&self, channel: &str) -> bool {
        self.lock().channels.get(channel).is_some_and(|channel| channel.state == State::Confirmed)
    }

    /// Returns channels that have not been requested yet, at most `limit`, and records them as
    /// requested now.
    pub(crate) fn take_wanted(&self, epoch: u64, limit: usize) -> Vec<String> {
        let Open { channels, wanted, .. } = &mut *self.lock();
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some(name) = wanted.pop_front()
        {
            if let Some(channel) = channels.get_mut(name.as_str())
                && channel.state == State::Wanted
            {
                channel.state = State::Requested { epoch };
                taken.push(name);
            }
        }
        taken
    }

    /// Records the end of an attempt to subscribe: a success wakes the waiters, a failure is
    /// retried.
    pub(crate) fn finish_attempt(&self, channel: &str, epoch: u64, confirmed: bool) {
        let Open { channels, wanted, .. } = &mut *self.lock();
        if let Some(subscribed) = channels.get_mut(channel)
            && subscribed.state == (State::Requested { epoch })
        {
            if confirmed {
                subscribed.state = State::Confirmed;
                subscribed.subscription().notify_waiters();
            } else {
                subscribed.state = State::Wanted;
                wanted.push_back(channel.to_owned());
            }
        }
    }

    /// Treats all subscriptions as lost.
    pub(crate) fn reset_all(&self) {
        let Open { channels, wanted, .. } = &mut *self.lock();
        wanted.clear();
        for (name, channel) in channels.iter_mut() {
            channel.state = State::Wanted;
            wanted.push_back(name.clone());
        }
    }

    pub(crate) fn notify(&self, channel: &str) {
        if let Some(channel) = self.lock().channels.get(channel) {
            channel.subscription().notify_waiters();
        }
    }

    pub(crate) fn notify_all(&self) {
        for (_, channel) in self.lock().channels.iter() {
            channel.subscription().notify_waiters();
        }
    }

    /// Removes the channels that have had no waiter for a while.
    pub(crate) fn sweep(&self) -> Vec<String> {
        self.lock().channels.sweep(LINGER).into_iter().map(|(name, _)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Future, poll_fn},
        task::Poll,
    };

    use super::{Channels, State};

    #[tokio::test]
    async fn missed_messages_wake_all_waiters() {
        let channels = Channels::default();
        let notifications =
            ["a", "b", "b"].map(|name| channels.subscribe(name.to_owned()).notified());
        channels.notify_all();
        for notification in notifications {
            notification.await;
        }
    }

    #[test]
    fn a_channel_is_wanted_once_and_again_after_a_failure_or_a_reconnect() {
        let channels = Channels::default();
        let _waiters = ["a", "b", "a"].map(|name| channels.subscribe(name.to_owned()));
        assert_eq!(channels.take_wanted(0, 9), ["a", "b"]);
        assert!(channels.take_wanted(0, 9).is_empty());
        channels.finish_attempt("a", 0, true);
        channels.finish_attempt("b", 0, false);
        assert!(channels.is_confirmed("a") && channels.is_wanted("b"));
        channels.reset_all();
        let mut wanted = channels.take_wanted(1, 9);
        wanted.sort();
        assert_eq!(wanted, ["a", "b"]);
        assert!(!channels.is_confirmed("a") && channels.take_wanted(1, 9).is_empty());
    }

    #[test]
    fn channels_are_requested_in_the_order_of_their_waiters_and_not_all_at_once() {
        let channels = Channels::default();
        let _waiters = ["a", "b", "c"].map(|name| channels.subscribe(name.to_owned()));
        assert_eq!(channels.take_wanted(0, 2), ["a", "b"]);
        assert!(channels.take_wanted(0, 0).is_empty());
        assert_eq!(channels.take_wanted(0, 2), ["c"]);
    }

    #[test]
    fn a_listener_stays_while_there_are_channels_and_is_replaced_after_that() {
        let channels = Channels::default();
        assert!(channels.register_listener() && !channels.register_listener(), "one is enough");
        let waiter = channels.subscribe("a".to_owned());
        assert!(!channels.deregister_listener() && !channels.register_listener());
        drop(waiter);
        assert!(!channels.deregister_listener(), "the channel lingers");
        let channels = Channels::default();
        assert!(channels.register_listener() && channels.deregister_listener());
        let _waiter = channels.subscribe("a".to_owned());
        assert!(channels.register_listener());
    }

    #[tokio::test]
    async fn a_reply_on_the_previous_connection_confirms_nothing() {
        let channels = Channels::default();
        let mut notification = Box::pin(channels.subscribe("a".to_owned()).notified());
        assert_eq!(channels.take_wanted(0, 9), ["a"]);
        channels.reset_all();
        assert_eq!(channels.take_wanted(1, 9), ["a"]);
        channels.finish_attempt("a", 0, true);
        let state = channels.lock().channels.get("a").map(|channel| channel.state);
        assert_eq!(state, Some(State::Requested { epoch: 1 }));
        assert!(
            poll_fn(|context| Poll::Ready(notification.as_mut().poll(context).is_pending())).await,
            "nothing is confirmed"
        );
        channels.finish_attempt("a", 1, true);
        notification.await;
    }
}
