//! The driver, behind the few words that the operations need. But for its errors, which `error.rs`
//! sorts, for what `RedisConfig` and `address.rs` take, and for the hash of a script, only this module and
//! those within it know the driver.

mod call;
mod connection;
mod detached;
mod gather;
mod link;
mod reply;
mod send;
mod settings;
mod subscription;
mod words;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use fred::types::config::Server;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, timeout},
};

use self::{
    call::Call,
    connection::Connection,
    detached::Detached,
    gather::Core,
    link::Link,
    words::{Words, values},
};
pub(crate) use self::{
    reply::{Answer, Reply},
    settings::Settings,
    subscription::{News, Reach, Subscriber, Subscription},
};
use crate::{
    error::{Effect, Failure},
    options::Replicas,
    script::Script,
};

/// One multiplexed connection (one for each node of a cluster), made anew if the driver gives up.
///
/// It belongs to the runtime on which it was opened: the driver runs there, and so does everything that
/// talks to it. Its methods may be called from any runtime, or from none, and hand their work over.
pub(crate) struct Client(Arc<Core>);

impl Client {
    /// Opens a client on the caller's runtime, to which it belongs from then on.
    pub(crate) async fn connect(settings: Settings) -> Result<Self, Failure> {
        let home = Handle::try_current().map_err(|_| Failure::NoRuntime)?;
        let opening = Connection::open(settings).await;
        let connection = opening.map_err(|unopened| unopened.failure())?;
        Ok(Self(Arc::new(Core::new(connection, home))))
    }

    /// Returns the runtime that the client belongs to.
    pub(crate) fn home(&self) -> &Handle {
        &self.0.home
    }

    /// Runs a script, whose keys share a slot. Where the server does not know it, its body is sent.
    pub(crate) async fn run(
        &self,
        script: &'static Script,
        keys: &[&str],
        arguments: &[&str],
    ) -> Result<Reply, Failure> {
        self.replicated(script, keys, arguments, None).await.map(|answer| answer.reply)
    }

    /// Runs a script and counts the replicas that have what it wrote.
    pub(crate) async fn replicated(
        &self,
        script: &'static Script,
        keys: &[&str],
        arguments: &[&str],
        replicas: Option<Replicas>,
    ) -> Result<Answer, Failure> {
        let (answer, answered) = oneshot::channel();
        let call = Call {
            script,
            words: Words::new(script, keys, arguments),
            replicas,
            answer,
            deadline: Instant::now() + self.0.connection.settings.command_timeout,
            resends: 0,
            alone: false,
        };
        match self.idle() {
            Some(link) => {
                let send = self.0.clone().send(link, vec![call]);
                Detached::new(send, self.0.home.clone()).await;
            }
            None => self.0.submit(call),
        }
        // What the runtime took along when it ended may have been sent.
        let answered = async { answered.await.unwrap_or(Err(Failure::Ended(Effect::Unknown))) };
        self.bounded(answered).await
    }

    /// Returns the link where a call may go out at once from where it is made: on the client's runtime,
    /// while nothing is in flight or about to be. Then there is nothing to join it with, and a task of
    /// its own would only cost time.
    fn idle(&self) -> Option<Arc<Link>> {
        if !self.0.is_idle() || !self.is_home() {
            return None;
        }
        self.0.connection.living().filter(|link| link.is_connected())
    }

    fn is_home(&self) -> bool {
        Handle::try_current().is_ok_and(|here| here.id() == self.0.home.id())
    }

    /// Sends a command whose first argument is its key.
    pub(crate) async fn command(
        &self,
        name: &'static str,
        arguments: &[&str],
    ) -> Result<Reply, Failure> {
        self.at(None, name, arguments).await
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
        if !self.0.connection.settings.is_cluster() {
            return Ok(vec![None]);
        }
        let core = self.0.clone();
        let link =
            async move { core.connection.link().await.map_err(|unopened| unopened.failure()) };
        Ok(self.at_home(link).await?.nodes().into_iter().map(Some).collect())
    }

    pub(crate) async fn at(
        &self,
        node: Option<&Server>,
        name: &'static str,
        arguments: &[&str],
    ) -> Result<Reply, Failure> {
        let (core, node, arguments) = (self.0.clone(), node.cloned(), values(arguments));
        self.at_home(async move { core.connection.command(node, name, arguments).await }).await
    }

    /// Runs something on the client's runtime. Its caller can stop waiting for it but cannot stop it.
    ///
    /// The driver keeps a command whose future is dropped while there is no connection, for as long as
    /// that takes, and sends it after the reconnect. What cancels a command is the driver's own
    /// timeout, and that runs only while the future is polled.
    async fn at_home<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let begun = Arc::new(AtomicBool::new(false));
        let begin = begun.clone();
        let task = self.0.home.spawn(async move {
            begin.store(true, Ordering::Relaxed);
            work.await
        });
        let answered = async {
            task.await.unwrap_or_else(|_| {
                Err(Failure::Ended(match begun.load(Ordering::Relaxed) {
                    true => Effect::Unknown,
                    false => Effect::None,
                }))
            })
        };
        self.bounded(answered).await
    }

    /// Bounds the wait for the client's runtime where the caller is on another one: the client's may
    /// stand still, as one of a single thread does that no one drives, and its timers with it.
    async fn bounded<T>(
        &self,
        answer: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        if self.is_home() || Handle::try_current().is_err() {
            return answer.await;
        }
        let limit = self.0.connection.settings.patience();
        timeout(limit, answer).await.unwrap_or(Err(Failure::Unattended(limit)))
    }
}
