//! The driver, behind the few calls that the operations need. Only this module and its submodules
//! know the driver, except for its errors (sorted in `error.rs`), what `RedisConfig` and
//! `address.rs` accept, and the hash of a script.

mod call;
mod connection;
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
    gather::Core,
    link::Link,
    words::{Words, values},
};
pub(crate) use self::{
    reply::{Answer, Reply},
    settings::Settings,
    subscription::{Event, Reach, Subscriber, Subscription},
};
use syncguard_core::backend::{Detached, Effect};

use crate::{error::Failure, options::Replicas, script::Script};

/// One multiplexed connection (one per node of a cluster), reopened if the driver gives up.
///
/// It belongs to the runtime on which it was opened: the driver runs there, and so does everything
/// that calls the driver. Its methods may be called from any runtime, or outside of one, and run
/// their work on the client's runtime.
#[derive(Clone)]
pub(crate) struct Client(Arc<Core>);

impl Client {
    /// Opens a client on the caller's runtime. The client belongs to that runtime from then on.
    pub(crate) async fn connect(settings: Settings) -> Result<Self, Failure> {
        let runtime = Handle::try_current().map_err(|_| Failure::NoRuntime)?;
        let opening = Connection::open(settings).await;
        let connection = opening.map_err(|error| error.failure())?;
        Ok(Self(Arc::new(Core::new(connection, runtime))))
    }

    /// Returns the runtime that the client belongs to.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.0.runtime
    }

    /// Runs a script, whose keys share a slot. Sends the body if the server does not know the
    /// script.
    pub(crate) async fn run(
        &self,
        script: &'static Script,
        keys: &[&str],
        arguments: &[&str],
    ) -> Result<Reply, Failure> {
        self.replicated(script, keys, arguments, None).await.map(|answer| answer.reply)
    }

    /// Runs a script and counts the replicas that have received its writes.
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
            unbatched: false,
        };
        match self.idle() {
            Some(link) => {
                // While disconnected, the driver keeps a command whose future is dropped, and sends
                // it after the reconnect, however late. Only its own timeout cancels a command, and
                // that runs only while the future is polled.
                let send = self.0.clone().send(link, vec![call]);
                Detached::new(send, self.0.runtime.clone()).await;
            }
            None => self.0.submit(call),
        }
        // A call that was dropped with the runtime may have been sent.
        let answered =
            async { answered.await.unwrap_or(Err(Failure::Ended(Effect::MayHaveApplied))) };
        self.bounded(answered).await
    }

    /// Returns the link if a call may be sent directly by its caller: on the client's runtime,
    /// while nothing is in flight or about to be. Then there is nothing to batch it with, and a
    /// separate task would only cost time.
    fn idle(&self) -> Option<Arc<Link>> {
        if !self.0.is_idle() || !self.is_on_runtime() {
            return None;
        }
        self.0.connection.live_link().filter(|link| link.is_connected())
    }

    fn is_on_runtime(&self) -> bool {
        Handle::try_current().is_ok_and(|here| here.id() == self.0.runtime.id())
    }

    /// Sends a command whose first argument is its key.
    pub(crate) async fn command(
        &self,
        name: &'static str,
        arguments: &[&str],
    ) -> Result<Reply, Failure> {
        self.at(None, name, arguments).await
    }

    /// Sends a command to the single server, or to each primary of a cluster in turn.
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

    /// Returns the nodes for [`at`](Self::at): none, or the primaries of a cluster.
    pub(crate) async fn nodes(&self) -> Result<Vec<Option<Server>>, Failure> {
        if !self.0.connection.settings.is_cluster() {
            return Ok(vec![None]);
        }
        let core = self.0.clone();
        let link = async move { core.connection.link().await.map_err(|error| error.failure()) };
        Ok(self.on_runtime(link).await?.nodes().into_iter().map(Some).collect())
    }

    pub(crate) async fn at(
        &self,
        node: Option<&Server>,
        name: &'static str,
        arguments: &[&str],
    ) -> Result<Reply, Failure> {
        let (core, node, arguments) = (self.0.clone(), node.cloned(), values(arguments));
        self.on_runtime(async move { core.connection.command(node, name, arguments).await }).await
    }

    /// Runs a future on the client's runtime, from now on. The caller can stop waiting for it but
    /// cannot stop it.
    ///
    /// While disconnected, the driver keeps a command whose future is dropped, however long that
    /// takes, and sends it after the reconnect. Only the driver's own timeout cancels a command,
    /// and that timeout runs only while the future is polled.
    ///
    /// The future that this returns does not contain the work, which keeps the futures of all
    /// operations small.
    fn on_runtime<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> impl Future<Output = Result<T, Failure>> + Send {
        let begun = Arc::new(AtomicBool::new(false));
        let begin = begun.clone();
        let task = self.0.runtime.spawn(async move {
            begin.store(true, Ordering::Relaxed);
            work.await
        });
        let answered = async move {
            task.await.unwrap_or_else(|_| {
                Err(Failure::Ended(match begun.load(Ordering::Relaxed) {
                    true => Effect::MayHaveApplied,
                    false => Effect::NotApplied,
                }))
            })
        };
        self.bounded(answered)
    }

    /// Bounds the wait for the client's runtime if the caller is on another one. The client's
    /// runtime and its timers may be stalled, as those of a single-threaded one are while it is not
    /// driven.
    async fn bounded<T>(
        &self,
        answer: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        if self.is_on_runtime() || Handle::try_current().is_err() {
            return answer.await;
        }
        let limit = self.0.connection.settings.max_call_duration();
        timeout(limit, answer).await.unwrap_or(Err(Failure::Unattended(limit)))
    }
}
