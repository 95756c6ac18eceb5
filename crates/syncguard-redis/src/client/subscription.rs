//! The driver's subscriptions, behind the few calls that waiting needs.

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

/// How channels are published to and subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Server-wide.
    Server,
    /// The node of the channel's slot, so that a cluster does not carry each message everywhere.
    Shard,
}

/// A connection used only for subscriptions.
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

/// An event of a subscription.
pub(crate) enum Event {
    /// This text was published on this channel.
    Published { channel: String, text: String },
    /// This many messages were missed.
    Missed(u64),
    /// There is a new connection, which has no subscriptions yet.
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
            // From here on: the first connection is not a reconnect.
            reconnects: driver.reconnect_rx(),
            task: AbortOnDropHandle::new(task),
            subscriber: Subscriber { driver, reach },
        })
    }

    pub(crate) fn subscriber(&self) -> Subscriber {
        self.subscriber.clone()
    }

    /// Closes the connection.
    pub(crate) async fn close(self) {
        if let Err(error) = self.subscriber.driver.quit().await {
            // It is closed when it is dropped, too.
            tracing::debug!(%error, "the connection was not closed in order");
        }
    }

    /// Waits for the next event.
    pub(crate) async fn next_event(&mut self) -> Event {
        tokio::select! {
            message = self.messages.recv() => match message {
                Ok(message) => Event::Published {
                    channel: message.channel.to_string(),
                    text: message.value.into_string().unwrap_or_default(),
                },
                Err(RecvError::Lagged(missed)) => Event::Missed(missed),
                Err(RecvError::Closed) => Event::Ended,
            },
            server = self.reconnects.recv() => match server {
                Err(RecvError::Closed) => Event::Ended,
                _ => Event::Reconnected,
            },
            // When a slot moves, its subscriptions are lost.
            change = self.changes.recv() => match change {
                Err(RecvError::Closed) => Event::Ended,
                _ => Event::Reconnected,
            },
            _ = &mut self.task => Event::Ended,
        }
    }
}

impl Subscriber {
    /// Subscribes, and returns once the server has done so.
    pub(crate) async fn subscribe(&self, channel: &str) -> Result<(), Failure> {
        match self.reach {
            Reach::Server => {
                self.driver.subscribe(channel).await.map_err(Failure::driver)?;
                // The driver does not wait for the answer. Commands on one connection are carried
                // out in order, so the answer to this one implies it.
                self.driver.ping::<fred::types::Value>(None).await.map_err(Failure::driver)?;
            }
            Reach::Shard => match self.subscribe_to_shard(channel).await {
                // By now the driver knows the node to which the slot has moved.
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
            // A superfluous subscription costs a message; a lost connection has no subscriptions.
            tracing::debug!(%error, "a channel could not be unsubscribed from");
        }
    }
}
