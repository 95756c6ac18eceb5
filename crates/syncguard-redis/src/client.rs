//! The driver, behind the few words that the operations need. But for its errors, which `error.rs`
//! sorts, and for what `RedisConfig` takes, only this module and those within it know the driver.

mod detached;
mod reply;
mod settings;
mod subscription;

use std::{
    future::Future,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use fred::{
    clients::Client as Driver,
    interfaces::ClientLike,
    types::{ClusterHash, CustomCommand, Value, config::Server},
    util::{redis_keyslot, sha1_hash},
};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use self::detached::Detached;
pub(crate) use self::{
    reply::Reply,
    settings::Settings,
    subscription::{News, Reach, Subscriber, Subscription},
};
use crate::error::{DriverError, Failure};

/// How often a command that was certainly not carried out is sent again at once. The first attempt
/// may meet a lock that has moved to another node, the second one a node that had no connection.
const RESENDS: usize = 2;

/// How often to look whether the connection is back.
const POLL: Duration = Duration::from_millis(5);

/// One multiplexed connection (one for each node of a cluster), made anew if the driver gives up.
pub(crate) struct Client {
    settings: Settings,
    current: RwLock<Arc<Link>>,
    /// Held while a new link is made, so that only one is.
    renewal: Mutex<()>,
}

struct Link {
    driver: Driver,
    /// The driver's own task. Ending it closes the connections.
    task: AbortOnDropHandle<Result<(), DriverError>>,
    command_timeout: Duration,
}

/// A script and the hash by which the server knows it.
pub(crate) struct Script {
    body: &'static str,
    hash: String,
}

impl Client {
    pub(crate) async fn connect(settings: Settings) -> Result<Self, Failure> {
        let link = Link::open(&settings).await?;
        Ok(Self { settings, current: RwLock::new(Arc::new(link)), renewal: Mutex::new(()) })
    }

    /// Runs a script, whose keys share a slot. Where the server does not know it, its body is sent.
    pub(crate) async fn run(
        &self,
        script: &Script,
        keys: &[&str],
        arguments: &[&str],
    ) -> Result<Reply, Failure> {
        let slot = self.slot(keys.first().copied().unwrap_or_default());
        let count = keys.len().to_string();
        let call = |script: &str| values(&[&[script, &count], keys, arguments]);
        match self.send("EVALSHA", slot.clone(), || call(&script.hash)).await {
            Err(Failure::Refused(error)) if error.details().starts_with("NOSCRIPT") => {
                self.send("EVAL", slot, || call(script.body)).await
            }
            other => other,
        }
    }

    /// Sends a command whose first argument is its key.
    pub(crate) async fn command(
        &self,
        name: &'static str,
        arguments: &[&str],
    ) -> Result<Reply, Failure> {
        self.send(name, ClusterHash::FirstKey, || values(&[arguments])).await
    }

    /// Sends a command without a key to where this key is.
    pub(crate) async fn command_for(
        &self,
        key: &str,
        name: &'static str,
        arguments: &[&str],
    ) -> Result<Reply, Failure> {
        self.send(name, self.slot(key), || values(&[arguments])).await
    }

    /// Sends a command to the one server, or to each primary of a cluster in turn.
    pub(crate) async fn everywhere(
        &self,
        name: &'static str,
        arguments: &[&str],
    ) -> Result<Vec<Reply>, Failure> {
        let mut replies = Vec::new();
        for node in self.nodes().await? {
            replies.push(self.at(node.as_ref(), name, arguments).await?);
        }
        Ok(replies)
    }

    /// Gives the places for [`at`](Self::at): nothing, or the primaries of a cluster.
    pub(crate) async fn nodes(&self) -> Result<Vec<Option<Server>>, Failure> {
        if !self.settings.is_cluster() {
            return Ok(vec![None]);
        }
        let mut nodes = self.link().await?.driver.active_connections();
        nodes.sort();
        Ok(nodes.into_iter().map(Some).collect())
    }

    pub(crate) async fn at(
        &self,
        node: Option<&Server>,
        name: &'static str,
        arguments: &[&str],
    ) -> Result<Reply, Failure> {
        let Some(node) = node.cloned() else {
            return self.command(name, arguments).await;
        };
        let arguments = values(&[arguments]);
        let link = self.link().await?;
        let command = Detached::new(Box::pin(async move {
            let command = CustomCommand::new_static(name, ClusterHash::Random, false);
            let driver = link.driver.with_cluster_node(node);
            driver.custom::<Value, _>(command, arguments).await
        }));
        answer(command).await
    }

    async fn send(
        &self,
        name: &'static str,
        slot: ClusterHash,
        arguments: impl Fn() -> Vec<Value>,
    ) -> Result<Reply, Failure> {
        for _ in 0..RESENDS {
            match self.send_once(name, slot.clone(), arguments()).await {
                Err(Failure::NotSent(_)) => tokio::task::yield_now().await,
                other => return other,
            }
        }
        self.send_once(name, slot, arguments()).await
    }

    async fn send_once(
        &self,
        name: &'static str,
        slot: ClusterHash,
        arguments: Vec<Value>,
    ) -> Result<Reply, Failure> {
        let link = self.link().await?;
        link.connected().await?;
        let command = Detached::new(Box::pin(async move {
            let command = CustomCommand::new_static(name, slot, false);
            link.driver.custom::<Value, _>(command, arguments).await
        }));
        answer(command).await
    }

    /// Says where a key is. A single server has no slots.
    fn slot(&self, key: &str) -> ClusterHash {
        match self.settings.is_cluster() {
            true => ClusterHash::Custom(redis_keyslot(key.as_bytes())),
            false => ClusterHash::Random,
        }
    }

    /// Gives the link, or a new one where the driver's task has ended: it gives up on errors that
    /// it thinks final, and it ends with the runtime that it was started on.
    async fn link(&self) -> Result<Arc<Link>, Failure> {
        if let Some(link) = self.living() {
            return Ok(link);
        }
        let _only_one = self.renewal.lock().await;
        if let Some(link) = self.living() {
            return Ok(link);
        }
        tracing::warn!("the connection to the server was given up; making a new one");
        let link = Arc::new(Link::open(&self.settings).await?);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = link.clone();
        Ok(link)
    }

    fn living(&self) -> Option<Arc<Link>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        (!current.task.is_finished()).then(|| current.clone())
    }
}

impl Link {
    async fn open(settings: &Settings) -> Result<Self, Failure> {
        let driver = settings.prepared().build().map_err(Failure::driver)?;
        let connecting = timeout(settings.connect_timeout, driver.init());
        let task = match connecting.await {
            Ok(Ok(task)) => task,
            Ok(Err(error)) => return Err(Failure::connecting(error)),
            Err(_) => return Err(Failure::Unconnected(settings.connect_timeout)),
        };
        Ok(Self {
            driver,
            task: AbortOnDropHandle::new(task),
            command_timeout: settings.command_timeout,
        })
    }

    /// Waits until there is a connection, for as long as a command may take.
    ///
    /// A command that is given to the driver meanwhile might be carried out or not by the time that
    /// it fails. One that waits here has certainly not been sent.
    async fn connected(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + self.command_timeout;
        while !self.driver.is_connected() {
            if Instant::now() >= deadline || self.task.is_finished() {
                return Err(Failure::Unconnected(self.command_timeout));
            }
            sleep(POLL).await;
        }
        Ok(())
    }
}

fn values(words: &[&[&str]]) -> Vec<Value> {
    words.iter().copied().flatten().map(|word| Value::from(*word)).collect()
}

async fn answer(
    command: impl Future<Output = Result<Value, DriverError>>,
) -> Result<Reply, Failure> {
    command.await.map(Reply::from).map_err(Failure::driver)
}

impl Script {
    pub(crate) fn new(body: &'static str) -> Self {
        Self { body, hash: sha1_hash(body) }
    }
}
