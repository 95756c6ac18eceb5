//! The waiters of this process, and the connection on which they listen for releases.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::postgres::PgConnectOptions;
use syncguard_core::{WakeUp, pool::contained};
use tokio::{
    runtime::Handle,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    error::Failure,
    interests::{Interests, LINGER, Seat},
    listener::{Line, Listener, Watch, Watched},
};

/// How often the keys are swept, and how long until a failed attempt is retried.
const ROUND: Duration = Duration::from_secs(2);

/// How long to wait before watching a key whose release is being committed.
const COMMIT: Duration = Duration::from_millis(2);

/// All waiters, and the one connection on which they are notified of releases.
pub(crate) struct Waiters {
    line: Option<Line>,
    interests: Arc<Interests>,
    /// The task that listens. It ends with the backend, or when there has been no waiter for a
    /// while.
    listener: Mutex<Option<AbortOnDropHandle<()>>>,
    /// The runtime on which the backend was opened. The listener lives there, whichever runtime the
    /// waiters are on.
    runtime: Handle,
}

impl Waiters {
    pub(crate) fn new(line: Option<Line>, runtime: Handle) -> Self {
        Self { line, interests: Arc::default(), listener: Mutex::default(), runtime }
    }

    pub(crate) fn wake_up(&self) -> WakeUp {
        if self.line.is_some() { WakeUp::Notified } else { WakeUp::None }
    }

    /// Returns the options of the connection that listens, if the backend listens.
    pub(crate) fn options(&self) -> Option<&PgConnectOptions> {
        self.line.as_ref().map(|line| &line.options)
    }

    /// Waits for a release of `key`.
    pub(crate) async fn news(&self, key: &str) {
        let seat = Seat::take(&self.interests, key);
        let mut news = std::pin::pin!(seat.news.notified());
        // Subscribed from here on, before a listener is started.
        news.as_mut().enable();
        self.listen();
        news.await;
    }

    /// Notifies the listener that a key may be wanted. Starts a listener if none is running: the
    /// first, or one that replaces a listener that has retired.
    fn listen(&self) {
        let Some(line) = &self.line else { return };
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = listener.as_ref().is_none_or(AbortOnDropHandle::is_finished);
        if self.interests.attend() || ended {
            let listening = listen(line.clone(), self.interests.clone());
            *listener = Some(AbortOnDropHandle::new(self.runtime.spawn(listening)));
        }
        self.interests.wanted.notify_one();
    }
}

/// Listens while there are keys to watch, over as many connections as it takes.
async fn listen(line: Line, interests: Arc<Interests>) {
    loop {
        interests.want_all();
        let (attended, keys) = (line.clone(), interests.clone());
        let attending = contained(async move { attend(&attended, &keys).await });
        match attending.await.unwrap_or_else(Failure::uncontained) {
            Ok(()) => return,
            Err(failure) => tracing::debug!(%failure, "releases cannot be listened for"),
        }
        sleep(ROUND).await;
        interests.sweep(LINGER);
        if interests.retire() {
            return;
        }
    }
}

/// Listens over one connection until it breaks, or until there is nothing left to watch.
async fn attend(line: &Line, interests: &Interests) -> Result<(), Failure> {
    let mut listener = Listener::open(line).await?;
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut committing = false;
        let wanted = interests.wanted();
        if !wanted.is_empty() {
            for Watch { key, watched } in listener.watch(wanted).await? {
                match watched {
                    Watched::As { hash, bucket } => interests.watched(&key, hash, bucket),
                    Watched::Committing => {
                        interests.want(&key);
                        committing = true;
                    }
                }
            }
        }
        tokio::select! {
            hash = listener.news() => interests.notify(hash?),
            () = interests.wanted.notified() => {}
            () = sleep(COMMIT), if committing => {}
            _ = rounds.tick() => {
                interests.sweep(LINGER);
                if interests.retire() {
                    return Ok(());
                }
                listener.keep(&interests.buckets()).await?;
            }
        }
    }
}
