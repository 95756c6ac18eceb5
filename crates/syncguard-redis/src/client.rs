//! The driver, behind the few words that the operations need. But for its errors, which `error.rs`
//! sorts, and for what `RedisConfig` takes, only this module and those within it know the driver.

mod detached;
mod gather;
mod link;
mod reply;
mod send;
mod settings;
mod subscription;
mod words;

use std::{
    borrow::Cow,
    future::Future,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use fred::{
    types::{ClusterHash, Value, config::Server},
    util::sha1_hash,
};
use tokio::{
    runtime::Handle,
    sync::{Mutex, oneshot},
    time::{Instant, timeout},
};

use self::{
    detached::Detached,
    gather::{Call, Queue},
    link::{Link, Unopened},
    words::Words,
};
pub(crate) use self::{
    reply::Reply,
    settings::Settings,
    subscription::{News, Reach, Subscriber, Subscription},
};
use crate::{
    error::{Effect, Failure},
    options::Replicas,
};

/// One multiplexed connection (one for each node of a cluster), made anew if the driver gives up.
///
/// It belongs to the runtime on which it was opened: the driver runs there, and so does everything that
/// talks to it. Its methods may be called from any runtime, or from none, and hand their work over.
pub(crate) struct Client(Arc<Core>);

/// What the tasks of a client share.
struct Core {
    settings: Settings,
    home: Handle,
    /// On a cluster, where calls have slots of their own.
    one_by_one: bool,
    queue: std::sync::Mutex<Queue>,
    /// How many calls of scripts are in flight.
    flying: AtomicUsize,
    current: RwLock<Arc<Link>>,
    /// Held while a new link is made, so that only one is.
    renewal: Mutex<()>,
}

/// A script and the hash by which the server knows it.
pub(crate) struct Script {
    number: usize,
    rank: Rank,
    body: Cow<'static, str>,
    hash: String,
}

/// What goes first where several calls are ready together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// Keeps a lock that would be lost otherwise.
    Extend,
    /// Frees a key that others wait for.
    Release,
    Other,
}

/// What came back from a script.
pub(crate) struct Answer {
    pub(crate) reply: Reply,
    /// How many replicas have what it wrote, where that was asked for.
    pub(crate) replicas: Option<Result<i64, Failure>>,
}

impl Client {
    /// Opens a client on the caller's runtime, to which it belongs from then on.
    pub(crate) async fn connect(settings: Settings) -> Result<Self, Failure> {
        let home = Handle::try_current().map_err(|_| Failure::NoRuntime)?;
        let link = Link::open(&settings).await.map_err(|unopened| unopened.failure())?;
        Ok(Self(Arc::new(Core {
            one_by_one: settings.is_cluster(),
            settings,
            home,
            queue: std::sync::Mutex::default(),
            flying: AtomicUsize::new(0),
            current: RwLock::new(Arc::new(link)),
            renewal: Mutex::new(()),
        })))
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
            deadline: Instant::now() + self.0.settings.command_timeout,
            resends: 0,
            alone: false,
        };
        match self.idle() {
            Some(link) => {
                let send = send::send(self.0.clone(), link, vec![call]);
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
        if self.0.flying.load(Ordering::Relaxed) > 0 || self.0.is_scheduled() || !self.is_home() {
            return None;
        }
        self.0.living().filter(|link| link.is_connected())
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
        if !self.0.settings.is_cluster() {
            return Ok(vec![None]);
        }
        let core = self.0.clone();
        let link = async move { core.link().await.map_err(|unopened| unopened.failure()) };
        Ok(self.at_home(link).await?.nodes().into_iter().map(Some).collect())
    }

    pub(crate) async fn at(
        &self,
        node: Option<&Server>,
        name: &'static str,
        arguments: &[&str],
    ) -> Result<Reply, Failure> {
        let (core, node, arguments) = (self.0.clone(), node.cloned(), values(arguments));
        self.at_home(async move { core.command(node, name, arguments).await }).await
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
        let limit = self.0.patience();
        timeout(limit, answer).await.unwrap_or(Err(Failure::Unattended(limit)))
    }
}

impl Core {
    /// How long a call takes at most while the runtime runs: until there is a connection, or a new
    /// one was made; then the command.
    fn patience(&self) -> Duration {
        2 * self.settings.command_timeout + self.settings.connect_timeout
    }

    async fn command(
        &self,
        node: Option<Server>,
        name: &'static str,
        words: Vec<Value>,
    ) -> Result<Reply, Failure> {
        let mut resends = send::RESENDS;
        loop {
            let link = self.link().await.map_err(|unopened| unopened.failure())?;
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

    /// Gives the link, or a new one where the driver's task has ended: it gives up on errors that
    /// it thinks final.
    async fn link(&self) -> Result<Arc<Link>, Unopened> {
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
        (!current.has_ended()).then(|| current.clone())
    }
}

impl Script {
    pub(crate) fn new(number: usize, rank: Rank, body: impl Into<Cow<'static, str>>) -> Self {
        let body = body.into();
        Self { number, rank, hash: sha1_hash(&body), body }
    }
}

fn values(words: &[&str]) -> Vec<Value> {
    words.iter().map(|word| Value::from(*word)).collect()
}
