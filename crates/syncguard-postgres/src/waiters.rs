//! The waiters of this process, and the connection on which they listen for releases.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::postgres::PgConnectOptions;
use syncguard_core::{
    Fence, Holder,
    backend::{LINGER, Mode, Turn, WakeUp},
    pool::contained,
};
use tokio::{
    runtime::Handle,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    error::Failure,
    line::Line,
    listener::{Listener, ListenerOptions, Watch, Watched},
    subscriptions::Subscriptions,
};

/// How often the keys are swept, and how long to wait before a failed attempt is retried.
const SWEEP_INTERVAL: Duration = Duration::from_secs(2);

/// How long to wait before watching a key whose release is being committed.
const COMMIT_DELAY: Duration = Duration::from_millis(2);

/// The waiters, and the one connection on which they are notified of releases.
pub(crate) struct Waiters {
    options: Option<ListenerOptions>,
    subscriptions: Arc<Subscriptions>,
    /// The line in which the waiters of all clients stand, if the store has one.
    line: Option<Arc<Line>>,
    /// The task that listens. It ends with the backend, or when there has been no waiter for a
    /// while.
    listener: Mutex<Option<AbortOnDropHandle<()>>>,
    /// The runtime on which the backend was opened. The listener lives there, whichever runtime the
    /// waiters are on.
    runtime: Handle,
}

impl Waiters {
    pub(crate) fn new(options: Option<ListenerOptions>, runtime: Handle) -> Self {
        let (subscriptions, listener) = (Arc::default(), Mutex::default());
        Self { options, subscriptions, line: None, listener, runtime }
    }

    /// Makes the waiters stand in line. No one waits yet.
    pub(crate) fn set_line(&mut self, line: Option<Arc<Line>>) {
        self.line = line;
    }

    pub(crate) fn wake_up(&self) -> WakeUp {
        match (&self.options, &self.line) {
            (None, _) => WakeUp::None,
            (Some(_), None) => WakeUp::Notified,
            (Some(_), Some(_)) => WakeUp::InTurn,
        }
    }

    /// Returns the options of the connection that listens, if the backend listens.
    pub(crate) fn connect_options(&self) -> Option<&PgConnectOptions> {
        self.options.as_ref().map(|options| &options.connection)
    }

    /// Waits for a release of `key`.
    pub(crate) async fn released(&self, key: &str) {
        // Subscribed from here on, before a listener is started.
        let released = self.subscriptions.subscribe(key).notified();
        self.listen();
        released.await;
    }

    /// Waits for the turn of a waiter to request `key`.
    pub(crate) async fn turn(&self, key: &str) {
        let (_watched, turns) = self.subscriptions.subscribe_to_turns(key);
        let turn = turns.notified();
        self.listen();
        turn.await;
    }

    /// Returns whether a key is watched.
    pub(crate) fn is_subscribed(&self, key: &str) -> bool {
        self.subscriptions.is_watched(key)
    }

    /// Records that an attempt was refused. A waiter enters the line.
    pub(crate) fn refused(&self, key: &str, mode: Mode, holder: &Holder) {
        let Some(line) = &self.line else { return };
        let exclusive = holder.fence.filter(|_| !holder.mode.is_shared());
        if let Some(entry) = self.subscriptions.refused(key, exclusive) {
            let room = match mode {
                Mode::Exclusive => 1,
                Mode::Shared { permits } => permits.map_or(i64::MAX, |n| n.get().into()),
            };
            line.enter(&self.subscriptions, key, entry, room);
        }
    }

    /// Records that an attempt was granted. A waiter leaves the line.
    pub(crate) fn granted(&self, key: &str, mode: Mode, fence: Fence) {
        let Some(line) = &self.line else { return };
        let exclusive = Some(fence).filter(|_| !mode.is_shared());
        if self.subscriptions.granted(key, exclusive) {
            line.quit(key);
        }
    }

    /// Notifies the listener that a key is to be watched. Starts a listener if none is running: the
    /// first, or one that replaces a listener that has retired.
    fn listen(&self) {
        let Some(options) = &self.options else { return };
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = listener.as_ref().is_none_or(AbortOnDropHandle::is_finished);
        if self.subscriptions.register_listener() || ended {
            let (subscriptions, line) = (self.subscriptions.clone(), self.line.clone());
            let listening = listen(options.clone(), subscriptions, line);
            *listener = Some(AbortOnDropHandle::new(self.runtime.spawn(listening)));
        }
        self.subscriptions.added.notify_one();
    }
}

/// Listens while there are keys to watch, over as many connections as it takes.
async fn listen(
    options: ListenerOptions,
    subscriptions: Arc<Subscriptions>,
    line: Option<Arc<Line>>,
) {
    loop {
        subscriptions.set_all_unwatched();
        let (options, keys, line) = (options.clone(), subscriptions.clone(), line.clone());
        let listening =
            contained(async move { listen_once(&options, &keys, line.as_deref()).await });
        match listening.await.unwrap_or_else(Failure::uncontained) {
            Ok(()) => return,
            Err(failure) => tracing::debug!(%failure, "releases cannot be listened for"),
        }
        sleep(SWEEP_INTERVAL).await;
        subscriptions.sweep(LINGER);
        if subscriptions.deregister_listener() {
            return;
        }
    }
}

/// Listens over one connection until it breaks, or until there is nothing left to watch.
async fn listen_once(
    options: &ListenerOptions,
    subscriptions: &Subscriptions,
    line: Option<&Line>,
) -> Result<(), Failure> {
    let mut listener = Listener::open(options).await?;
    let mut substitutes = JoinSet::new();
    let mut sweeps = interval_at(Instant::now() + SWEEP_INTERVAL, SWEEP_INTERVAL);
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut committing = false;
        let unwatched = subscriptions.take_unwatched();
        if !unwatched.is_empty() {
            for Watch { key, watched } in listener.watch(unwatched).await? {
                match watched {
                    Watched::As { hash, bucket } => subscriptions.set_watched(&key, hash, bucket),
                    Watched::Committing => {
                        subscriptions.put_back(&key);
                        committing = true;
                    }
                }
            }
        }
        tokio::select! {
            released = listener.recv() => {
                let released = released?;
                let turn = line.map_or(Turn::Open, |line| released.turn(line.client()));
                let left = subscriptions.notify(released.hash, turn);
                if let Some(line) = line {
                    left.unwanted.iter().for_each(|key| line.pass(key));
                }
                for substitute in left.substitutes {
                    substitutes.spawn(async move {
                        sleep(substitute.delay()).await;
                        substitute
                    });
                }
            }
            Some(Ok(substitute)) = substitutes.join_next() => {
                subscriptions.notify_substitute(&substitute);
            }
            () = subscriptions.added.notified() => {}
            () = sleep(COMMIT_DELAY), if committing => {}
            _ = sweeps.tick() => {
                let gone = subscriptions.sweep_waiters(SWEEP_INTERVAL);
                if let Some(line) = line {
                    gone.iter().for_each(|key| line.quit(key));
                }
                subscriptions.sweep(LINGER);
                if subscriptions.deregister_listener() {
                    listener.close().await;
                    return Ok(());
                }
                listener.retain(&subscriptions.buckets()).await?;
            }
        }
    }
}
