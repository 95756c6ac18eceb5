use std::sync::{Arc, PoisonError, RwLock};

use fred::types::{ClusterHash, Value, config::Server};
use tokio::sync::Mutex;

use super::{
    link::{Link, MAX_RESENDS, OpenError},
    reply::Reply,
    settings::Settings,
};
use crate::error::Failure;

/// The link of a client, reopened if the driver gives up.
pub(super) struct Connection {
    pub(super) settings: Settings,
    current: RwLock<Arc<Link>>,
    /// Held while a new link is opened, so that only one is.
    renewal: Mutex<()>,
}

impl Connection {
    pub(super) async fn open(settings: Settings) -> Result<Self, OpenError> {
        let link = Link::open(&settings).await?;
        Ok(Self { settings, current: RwLock::new(Arc::new(link)), renewal: Mutex::new(()) })
    }

    /// Sends a command to a node, or to the node of its first argument, which is its key.
    pub(super) async fn command(
        &self,
        node: Option<Server>,
        name: &'static str,
        words: Vec<Value>,
    ) -> Result<Reply, Failure> {
        let mut resends = MAX_RESENDS;
        loop {
            let link = self.link().await.map_err(|error| error.failure())?;
            let answer = match &node {
                Some(node) => link.send_to(node.clone(), name, words.clone()).await,
                None => {
                    link.connected(self.settings.command_timeout).await?;
                    link.send(name, ClusterHash::FirstKey, words.clone()).await
                }
            };
            match answer.map(Reply::from).map_err(Failure::driver) {
                Err(Failure::NotSent(_)) if resends > 0 && node.is_none() => resends -= 1,
                other => return other,
            }
            tokio::task::yield_now().await;
        }
    }

    /// Returns the link, or a new one if the driver's task has ended: the driver gives up on errors
    /// that it considers final.
    pub(super) async fn link(&self) -> Result<Arc<Link>, OpenError> {
        if let Some(link) = self.live_link() {
            return Ok(link);
        }
        let _only_one = self.renewal.lock().await;
        if let Some(link) = self.live_link() {
            return Ok(link);
        }
        tracing::warn!("the connection to the server was given up; making a new one");
        let link = Arc::new(Link::open(&self.settings).await?);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = link.clone();
        Ok(link)
    }

    pub(super) fn live_link(&self) -> Option<Arc<Link>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        (!current.has_ended()).then(|| current.clone())
    }
}
