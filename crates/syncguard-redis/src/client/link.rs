//! One connection of the driver, or one for each node of a cluster.

use std::time::Duration;

use fred::{
    clients::Client as Driver,
    interfaces::{ClientLike, EventInterface},
    types::{ClusterHash, ClusterStateChange, CustomCommand, Value, config::Server},
};
use tokio::{
    sync::broadcast::{Receiver, error::TryRecvError},
    time::{Instant, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::settings::Settings;
use crate::error::{DriverError, Failure};

/// How often to check whether the connection is back.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// How often a call that was certainly not carried out is immediately resent. The first attempt may
/// fail because the lock has moved to another node, the second because that node had no connection.
pub(super) const MAX_RESENDS: usize = 2;

pub(super) struct Link {
    driver: Driver,
    /// The driver's own task. The connections close when it ends.
    task: AbortOnDropHandle<Result<(), DriverError>>,
}

/// Why a connection could not be opened.
pub(super) enum OpenError {
    Failed(DriverError),
    TimedOut(Duration),
}

/// Detects whether the connections have changed since it was created.
pub(super) struct Continuity {
    reconnects: Receiver<Server>,
    changes: Receiver<Vec<ClusterStateChange>>,
}

impl Link {
    pub(super) async fn open(settings: &Settings) -> Result<Self, OpenError> {
        let driver = settings.prepared().build().map_err(OpenError::Failed)?;
        match timeout(settings.connect_timeout, driver.init()).await {
            Ok(Ok(task)) => Ok(Self { driver, task: AbortOnDropHandle::new(task) }),
            Ok(Err(error)) => Err(OpenError::Failed(error)),
            Err(_) => Err(OpenError::TimedOut(settings.connect_timeout)),
        }
    }

    /// Returns whether the driver has given up, on an error that it considers final.
    pub(super) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.driver.is_connected()
    }

    /// Waits until there is a connection, for as long as a command may take.
    ///
    /// A command that is passed to the driver in the meantime may or may not have been carried out
    /// when it fails. A command that waits here has certainly not been sent.
    pub(super) async fn connected(&self, limit: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + limit;
        while !self.is_connected() {
            if Instant::now() >= deadline || self.has_ended() {
                return Err(Failure::Unconnected(limit));
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Sends a command. The first poll hands it to the driver, so that the order of the first polls is
    /// the order on the connection.
    pub(super) async fn send(
        &self,
        name: &'static str,
        slot: ClusterHash,
        words: Vec<Value>,
    ) -> Result<Value, DriverError> {
        let command = CustomCommand::new_static(name, slot, false);
        self.driver.custom(command, words).await
    }

    pub(super) async fn send_to(
        &self,
        node: Server,
        name: &'static str,
        words: Vec<Value>,
    ) -> Result<Value, DriverError> {
        let command = CustomCommand::new_static(name, ClusterHash::Random, false);
        self.driver.with_cluster_node(node).custom(command, words).await
    }

    pub(super) fn nodes(&self) -> Vec<Server> {
        let mut nodes = self.driver.active_connections();
        nodes.sort();
        nodes
    }

    pub(super) fn continuity(&self) -> Continuity {
        Continuity {
            reconnects: self.driver.reconnect_rx(),
            changes: self.driver.cluster_change_rx(),
        }
    }
}

impl Continuity {
    /// Returns whether everything that was sent since then, and answered, used one connection.
    ///
    /// The driver announces a new connection, and a slot that has moved, before it writes to the
    /// new one. So a command that used another connection finds the announcement here.
    pub(super) fn is_unbroken(&mut self) -> bool {
        matches!(self.reconnects.try_recv(), Err(TryRecvError::Empty))
            && matches!(self.changes.try_recv(), Err(TryRecvError::Empty))
    }
}

impl OpenError {
    pub(super) fn failure(&self) -> Failure {
        match self {
            Self::Failed(error) => Failure::connecting(error.clone()),
            Self::TimedOut(limit) => Failure::Unconnected(*limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fred::types::{Builder, ClusterHash, Value, config::Config};
    use syncguard_testkit::{operations::eventually, server::RedisServer};

    use super::{Link, Settings};

    const LONG: Duration = Duration::from_secs(30);

    /// The first reply on the new connection is the one that must not count.
    #[tokio::test]
    async fn a_new_connection_is_announced_before_any_reply_arrives_on_it() {
        let server = RedisServer::builder().start().await.unwrap();
        let builder = Builder::from_config(Config::from_url(&server.url()).unwrap());
        let settings = Settings { builder, command_timeout: LONG, connect_timeout: LONG };
        let link = Link::open(&settings).await.ok().unwrap();
        let wait = async || {
            let words = ["0", "1"].map(Value::from_static_str).to_vec();
            link.send("WAIT", ClusterHash::FirstKey, words).await
        };
        for _ in 0..20 {
            let mut continuity = link.continuity();
            wait().await.unwrap();
            assert!(continuity.is_unbroken());
            server.command(&["CLIENT", "KILL", "TYPE", "normal"]).await.unwrap();
            eventually("it is connected again", async || wait().await.is_ok()).await;
            assert!(!continuity.is_unbroken());
        }
    }
}
