//! The waiters of this process, and the connection on which they are subscribed to releases.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use syncguard_core::{
    Error, ErrorKind, Fence, LockId,
    backend::{Entry, Mode, WakeUp},
};
use tokio::{
    runtime::Handle,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    channels::Channels,
    client::{Client, Event, Reach, Settings, Subscriber, Subscription},
    error::Failure,
    line::Line,
    names::LockName,
};

/// How often channels that have no waiters are removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The delay before a failed attempt to connect or to subscribe is retried.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The maximum number of channels that are being subscribed to at the same time. Each takes some
/// three kilobytes until the server has confirmed it.
const MAX_SUBSCRIBING: usize = 1_000;

/// The first version that publishes within a shard.
const SHARDED_SINCE: u32 = 7;

/// All waiters, and the one connection on which they are subscribed.
pub(crate) struct Waiters {
    settings: Settings,
    runtime: Handle,
    reach: Option<Reach>,
    channels: Arc<Channels>,
    line: Arc<Line>,
    /// The task that keeps the subscriptions, on the backend's runtime. It ends with the backend, or
    /// when there has been no waiter for a while.
    listener: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Waiters {
    /// Finds out how releases are published. A cluster before version 7 would send each message to
    /// all of its nodes; on such a cluster, releases are not published.
    pub(crate) async fn new(settings: Settings, client: &Client) -> Result<Self, Failure> {
        let reach = match settings.is_cluster() {
            false => Some(Reach::Server),
            true => {
                let info = client.everywhere("INFO", &["server"]).await?;
                let old = |text: &str| major(text).is_some_and(|major| major < SHARDED_SINCE);
                let old = info.iter().filter_map(|info| info.text()).any(old);
                (!old).then_some(Reach::Shard)
            }
        };
        let name = LockId::mint().map_err(|error| {
            Error::new(ErrorKind::Internal)
                .with_detail("the operating system returned no random bytes")
                .with_source(error)
        })?;
        let (runtime, line) = (client.runtime().clone(), Line::new(client, name, publish(reach)));
        let (channels, line, listener) = (Arc::default(), Arc::new(line), Mutex::default());
        Ok(Self { settings, runtime, reach, channels, line, listener })
    }

    pub(crate) fn wake_up(&self) -> WakeUp {
        match self.reach {
            Some(_) => WakeUp::InTurn,
            None => WakeUp::None,
        }
    }

    /// The command with which scripts publish; empty if they do not.
    pub(crate) fn publish(&self) -> &'static str {
        publish(self.reach)
    }

    /// The name of this client in the lines.
    pub(crate) fn name(&self) -> &str {
        self.line.name()
    }

    /// Waits for a release.
    pub(crate) async fn released(&self, lock: &LockName) {
        // Registered before the subscription is requested, so no notification is missed.
        let channel = lock.channel();
        let notification = self.channels.subscribe(channel.clone()).notified();
        self.listen_to(&channel);
        notification.await;
    }

    /// Waits for the turn of a waiter.
    pub(crate) async fn turn(&self, lock: &LockName) {
        let channel = lock.channel();
        // It keeps the channel subscribed.
        let _channel = self.channels.subscribe(channel.clone());
        let turn = self.line.subscribe(lock).notified();
        self.listen_to(&channel);
        turn.await;
    }

    /// Returns the entry with which an attempt enters the line if it is refused. Only a waiter that
    /// can be notified enters.
    pub(crate) fn entry(&self, lock: &LockName) -> Option<Entry> {
        self.line.entry(lock).filter(|_| self.is_subscribed(&lock.channel()))
    }

    /// Records that an attempt with this entry was refused. It is in line if it has a place.
    pub(crate) fn refused(&self, lock: &LockName, entry: &Entry, place: Option<i64>) {
        self.line.refused(lock, entry, place);
    }

    /// Records that an attempt was granted, and whether it had an entry.
    pub(crate) fn granted(&self, lock: &LockName, mode: Mode, fence: Fence, entered: bool) {
        self.line.granted(lock, Some(fence).filter(|_| !mode.is_shared()), entered);
    }

    fn listen_to(&self, channel: &str) {
        if self.channels.is_wanted(channel) || !self.is_listening() {
            self.ensure_listener();
        }
    }

    /// Returns whether a release on `channel` is notified of.
    pub(crate) fn is_subscribed(&self, channel: &str) -> bool {
        self.channels.is_confirmed(channel)
    }

    /// Returns whether the listener runs. If it ends for want of waiters, the channel of a new waiter
    /// is wanted; it may also end with the backend's runtime, or by a panic.
    fn is_listening(&self) -> bool {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        listener.as_ref().is_some_and(|listener| !listener.is_finished())
    }

    /// Notifies the listener that a channel is wanted, and starts a listener if necessary.
    fn ensure_listener(&self) {
        let Some(reach) = self.reach else { return };
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        let has_ended = listener.as_ref().is_none_or(AbortOnDropHandle::is_finished);
        if self.channels.register_listener() || has_ended {
            let (channels, line) = (self.channels.clone(), self.line.clone());
            let listening = listen(self.settings.clone(), reach, channels, line);
            // If the backend's runtime has ended, no attempt is made either.
            *listener = Some(AbortOnDropHandle::new(self.runtime.spawn(listening)));
        }
        self.channels.wanted.notify_one();
    }
}

/// The command with which scripts publish; empty if they do not.
fn publish(reach: Option<Reach>) -> &'static str {
    match reach {
        Some(Reach::Server) => "PUBLISH",
        Some(Reach::Shard) => "SPUBLISH",
        None => "",
    }
}

/// Keeps the subscriptions while there are waiters, over as many connections as necessary.
async fn listen(settings: Settings, reach: Reach, channels: Arc<Channels>, line: Arc<Line>) {
    loop {
        channels.reset_all();
        line.set_none_in_line();
        match Subscription::open(&settings, reach).await {
            Ok(subscription) => {
                if serve(subscription, &channels, &line).await == Served::AllWaiters {
                    return;
                }
            }
            Err(failure) => {
                tracing::debug!(%failure, "releases cannot be listened for");
                channels.sweep();
                if channels.deregister_listener() {
                    return;
                }
            }
        }
        sleep(RETRY_DELAY).await;
    }
}

/// Why a connection is no longer listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    /// There has been no waiter for a while, and the listener is deregistered.
    AllWaiters,
    /// The driver gave up.
    UntilTheEnd,
}

/// Keeps the subscriptions until the driver gives up, or no one waits any more.
async fn serve(
    mut subscription: Subscription,
    channels: &Arc<Channels>,
    line: &Arc<Line>,
) -> Served {
    let subscriber = subscription.subscriber();
    let (mut subscribing, mut substitutes, mut epoch) = (JoinSet::new(), JoinSet::new(), 0);
    let mut sweeps = interval(SWEEP_INTERVAL);
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = subscription.next_event() => match event {
                Event::Published { channel, text } => {
                    channels.notify(&channel);
                    let lock = LockName::of_channel(&channel);
                    if let Some(substitute) = lock.and_then(|lock| line.notify(lock, &text)) {
                        substitutes.spawn(async move {
                            sleep(substitute.delay()).await;
                            substitute
                        });
                    }
                }
                Event::Missed(missed) => {
                    tracing::debug!(missed, "messages were missed, so all waiters are woken");
                    channels.notify_all();
                    line.wake_all();
                }
                Event::Reconnected => {
                    epoch += 1;
                    channels.reset_all();
                    line.set_none_in_line();
                }
                Event::Ended => return Served::UntilTheEnd,
            },
            Some(Ok(substitute)) = substitutes.join_next() => {
                line.notify_substitute(&substitute);
            }
            () = channels.wanted.notified() => {}
            Some(_) = subscribing.join_next(), if subscribing.len() == MAX_SUBSCRIBING => {}
            _ = sweeps.tick() => {
                line.sweep(SWEEP_INTERVAL);
                let gone = channels.sweep();
                if channels.deregister_listener() {
                    subscription.close().await;
                    return Served::AllWaiters;
                }
                for channel in gone {
                    subscriber.unsubscribe(&channel).await;
                }
            }
        }
        while subscribing.try_join_next().is_some() {}
        for channel in channels.take_wanted(epoch, MAX_SUBSCRIBING - subscribing.len()) {
            // Concurrent with listening, which must not wait for it.
            let (subscriber, channels) = (subscriber.clone(), channels.clone());
            subscribing.spawn(subscribe(subscriber, channels, line.clone(), channel, epoch));
        }
    }
}

async fn subscribe(
    subscriber: Subscriber,
    channels: Arc<Channels>,
    line: Arc<Line>,
    channel: String,
    epoch: u64,
) {
    let subscribed = subscriber.subscribe(&channel).await;
    if let Err(failure) = &subscribed {
        tracing::debug!(%failure, "a channel could not be subscribed to");
        // An attempt that fails immediately would otherwise be repeated in a tight loop.
        sleep(RETRY_DELAY).await;
    }
    channels.finish_attempt(&channel, epoch, subscribed.is_ok());
    if let Some(lock) = LockName::of_channel(&channel).filter(|_| subscribed.is_ok()) {
        line.wake(&lock);
    }
}

/// Parses the major version from a server's `INFO`.
fn major(info: &str) -> Option<u32> {
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"))?;
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_major_version_is_read() {
        let info = "# Server\r\nredis_version:7.0.15\r\nredis_mode:cluster\r\n";
        assert_eq!(super::major(info), Some(7));
        assert_eq!(super::major(""), None);
    }
}
