//! The waiters of this process, and the connection on which they listen for releases.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::postgres::PgConnectOptions;
use syncguard_core::{
    backend::{LINGER, WakeUp},
    pool::contained,
};
use tokio::{
    runtime::Handle,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    error::Failure,
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
    /// The task that listens. It ends with the backend, or when there has been no waiter for a
    /// while.
    listener: Mutex<Option<AbortOnDropHandle<()>>>,
    /// The runtime on which the backend was opened. The listener lives there, whichever runtime the
    /// waiters are on.
    runtime: Handle,
}

impl Waiters {
    pub(crate) fn new(options: Option<ListenerOptions>, runtime: Handle) -> Self {
        Self { options, subscriptions: Arc::default(), listener: Mutex::default(), runtime }
    }

    pub(crate) fn wake_up(&self) -> WakeUp {
        if self.options.is_some() { WakeUp::Notified } else { WakeUp::None }
    }

    /// Returns the options of the connection that listens, if the backend listens.
    pub(crate) fn connect_options(&self) -> Option<&PgConnectOptions> {
        self.options.as_ref().map(|options| &options.connection)
    }

    /// Waits for a release of `key`.
    pub(crate) async fn notified(&self, key: &str) {
        // Subscribed from here on, before a listener is started.
        let notified = self.subscriptions.subscribe(key).notified();
        self.listen();
        notified.await;
    }

    /// Notifies the listener that a key is to be watched. Starts a listener if none is running: the
    /// first, or one that replaces a listener that has retired.
    fn listen(&self) {
        let Some(options) = &self.options else { return };
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = listener.as_ref().is_none_or(AbortOnDropHandle::is_finished);
        if self.subscriptions.register_listener() || ended {
            let listening = listen(options.clone(), self.subscriptions.clone());
            *listener = Some(AbortOnDropHandle::new(self.runtime.spawn(listening)));
        }
        self.subscriptions.added.notify_one();
    }
}

/// Listens while there are keys to watch, over as many connections as it takes.
async fn listen(options: ListenerOptions, subscriptions: Arc<Subscriptions>) {
    loop {
        subscriptions.set_all_unwatched();
        let (options, keys) = (options.clone(), subscriptions.clone());
        let listening = contained(async move { listen_once(&options, &keys).await });
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
) -> Result<(), Failure> {
    let mut listener = Listener::open(options).await?;
    let mut sweeps = interval(SWEEP_INTERVAL);
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
            hash = listener.recv() => subscriptions.notify(hash?),
            () = subscriptions.added.notified() => {}
            () = sleep(COMMIT_DELAY), if committing => {}
            _ = sweeps.tick() => {
                subscriptions.sweep(LINGER);
                if subscriptions.deregister_listener() {
                    return Ok(());
                }
                listener.retain(&subscriptions.buckets()).await?;
            }
        }
    }
}
