//! The waiters of a runtime, and the stream that listens to their documents.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    client::{Client, Notification, Subscription},
    names::DocumentName,
    targets::Targets,
};

/// How often targets without waiters are removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The delay before a stream that has ended is reopened, and its maximum. While streams deliver
/// nothing, the delay doubles each time up to that.
const FIRST_REOPEN_DELAY: Duration = Duration::from_millis(20);
const MAX_REOPEN_DELAY: Duration = Duration::from_secs(2);

/// All waiters of a runtime, and the one stream that listens to their documents.
#[derive(Default)]
pub(crate) struct Waiters {
    targets: Arc<Targets>,
    /// The task that keeps the stream. It ends with the backend.
    listener: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Waiters {
    /// Waits until the lock in the document of this name may have become free.
    pub(crate) async fn notified(&self, client: &Arc<Client>, name: DocumentName) {
        // Registered before the listener is notified, so no notification is missed.
        let notified = self.targets.subscribe(name.clone()).notified();
        self.listen(client);
        if self.targets.is_wanted(&name) {
            self.targets.wanted.notify_one();
        }
        notified.await;
    }

    /// Returns whether changes of a document are notified of.
    pub(crate) fn is_subscribed(&self, name: &DocumentName) -> bool {
        self.targets.is_confirmed(name)
    }

    /// Starts the listener, unless it runs.
    fn listen(&self, client: &Arc<Client>) {
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if listener.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
            let listening = listen(client.clone(), self.targets.clone());
            *listener = Some(AbortOnDropHandle::new(tokio::spawn(listening)));
        }
    }
}

/// Keeps a stream open as long as there are waiters, reopening it as often as necessary.
async fn listen(client: Arc<Client>, targets: Arc<Targets>) {
    let mut delay = FIRST_REOPEN_DELAY;
    loop {
        while targets.is_empty() {
            targets.wanted.notified().await;
        }
        targets.want_all();
        let delivered = match client.listen(&targets.take_wanted()).await {
            Ok(stream) => serve(stream, &targets).await,
            Err(failure) => {
                tracing::debug!(%failure, "releases cannot be listened for");
                false
            }
        };
        delay = if delivered { FIRST_REOPEN_DELAY } else { (delay * 2).min(MAX_REOPEN_DELAY) };
        sleep(delay).await;
        // While no stream can be opened, only this removes the documents that have no waiters.
        targets.sweep();
    }
}

/// Keeps the targets of a stream until it ends, or until there are no targets. Returns whether the
/// stream delivered anything: a stream can be opened and then refused.
async fn serve(mut stream: Subscription, targets: &Targets) -> bool {
    let mut delivered = false;
    let mut sweeps = interval(SWEEP_INTERVAL);
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            notification = stream.notification() => match notification {
                Notification::Current(ids) => {
                    delivered = true;
                    targets.confirm(&ids);
                }
                Notification::Deleted(name) => targets.notify_deleted(&name),
                Notification::Changed(document) => targets.notify_changed(&document),
                Notification::Missed(ids) => targets.notify_missed(&ids),
                Notification::Other => {}
                Notification::Ended => return delivered,
            },
            () = targets.wanted.notified() => {}
            _ = sweeps.tick() => {
                for id in targets.sweep() {
                    stream.subscriber().remove(id);
                }
                if targets.is_empty() {
                    return delivered;
                }
            }
        }
        for (id, name) in targets.take_wanted() {
            stream.subscriber().add(id, &name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::Waiters;
    use crate::{
        client::{Client, Endpoint, Settings},
        clock::{Report, ServerClock},
        names::DocumentName,
    };

    /// Returns a client of an address on which no server listens.
    fn unreachable() -> Arc<Client> {
        let settings = Settings {
            endpoint: Endpoint::Emulator("127.0.0.1:1".to_owned()),
            database: "projects/p/databases/(default)".to_owned(),
            locks: "locks".to_owned(),
            request_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
        };
        Arc::new(Client::new(settings, ServerClock::new(Report::Silence)))
    }

    #[tokio::test(start_paused = true)]
    async fn targets_without_waiters_are_removed_even_if_no_stream_can_be_opened() {
        let (waiters, client) = (Waiters::default(), unreachable());
        let waiter = waiters.targets.subscribe(DocumentName::new("a".to_owned()));
        waiters.listen(&client);
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(!waiters.targets.is_empty(), "somebody waits");
        drop(waiter);
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(waiters.targets.is_empty());
    }
}
