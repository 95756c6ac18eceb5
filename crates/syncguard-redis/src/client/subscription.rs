//! The driver's subscriptions, behind the few words that waiting needs.

use fred::{
    clients::SubscriberClient,
    interfaces::{ClientLike, EventInterface, PubsubInterface},
    types::{ClusterStateChange, Message, config::Server},
};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

use super::settings::Settings;
use crate::error::{DriverError, Failure};

/// How channels are published on and subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// All of one server.
    Server,
    /// The node of the channel's slot, so that a cluster does not carry each message everywhere.
    Shard,
}

/// A connection for subscriptions alone.
pub(crate) struct Subscription {
    subscriber: Subscriber,
    messages: Receiver<Message>,
    reconnects: Receiver<Server>,
    changes: Receiver<Vec<ClusterStateChange>>,
    task: AbortOnDropHandle<Result<(), DriverError>>,
}

/// Subscribes and unsubscribes.
#[derive(Clone)]
pub(crate) struct Subscriber {
    driver: SubscriberClient,
    reach: Reach,
}

/// What a subscription tells.
pub(crate) enum News {
    /// Something was published on this channel.
    Published(String),
    /// So many messages were missed.
    Missed(u64),
    /// There is another connection, which has no subscriptions yet.
    Reconnected,
    /// The driver gave up.
    Ended,
}

impl Subscription {
    pub(crate) async fn open(settings: &Settings, reach: Reach) -> Result<Self, Failure> {
        let driver = settings.prepared().build_subscriber_client().map_err(Failure::driver)?;
        let (messages, changes) = (driver.message_rx(), driver.cluster_change_rx());
        let connecting = timeout(settings.connect_timeout, driver.init()).await;
        let task = match connecting {
            Ok(connected) => connected.map_err(Failure::connecting)?,
            Err(_) => return Err(Failure::Unconnected(settings.connect_timeout)),
        };
        Ok(Self {
            messages,
            changes,
            // From here on: the first connection is no reconnect.
            reconnects: driver.reconnect_rx(),
            task: AbortOnDropHandle::new(task),
            subscriber: Subscriber { driver, reach },
        })
    }

    pub(crate) fn subscriber(&self) -> Subscriber {
        self.subscriber.clone()
    }

    /// Waits for news.
    pub(crate) async fn news(&mut self) -> News {
        tokio::select! {
            message = self.messages.recv() => match message {
                Ok(message) => News::Published(message.channel.to_string()),
                Err(RecvError::Lagged(missed)) => News::Missed(missed),
                Err(RecvError::Closed) => News::Ended,
            },
            server = self.reconnects.recv() => match server {
                Err(RecvError::Closed) => News::Ended,
                _ => News::Reconnected,
            },
            // A slot that has moved takes its subscriptions along to nowhere.
            change = self.changes.recv() => match change {
                Err(RecvError::Closed) => News::Ended,
                _ => News::Reconnected,
            },
            _ = &mut self.task => News::Ended,
        }
    }
}

impl Subscriber {
    /// Subscribes, and returns when the server has done so.
    pub(crate) async fn subscribe(&self, channel: &str) -> Result<(), Failure> {
        match self.reach {
            Reach::Server => {
                self.driver.subscribe(channel).await.map_err(Failure::driver)?;
                // The driver does not wait for the answer. Commands of one connection are carried
                // out in order, so this one's answer stands for that.
                self.driver.ping::<fred::types::Value>(None).await.map_err(Failure::driver)?;
            }
            Reach::Shard => match self.subscribe_to_shard(channel).await {
                // By now the driver knows where the slot has moved.
                Err(Failure::NotSent(_)) => self.subscribe_to_shard(channel).await?,
                subscribed => subscribed?,
            },
        }
        Ok(())
    }

    async fn subscribe_to_shard(&self, channel: &str) -> Result<(), Failure> {
        self.driver.ssubscribe(channel).await.map_err(Failure::driver)
    }

    pub(crate) async fn unsubscribe(&self, channel: &str) {
        let done = match self.reach {
            Reach::Server => self.driver.unsubscribe(channel).await,
            Reach::Shard => self.driver.sunsubscribe(channel).await,
        };
        if let Err(error) = done {
            // A subscription too many costs a message; a lost connection has none.
            tracing::debug!(%error, "a channel could not be unsubscribed from");
        }
    }
}
