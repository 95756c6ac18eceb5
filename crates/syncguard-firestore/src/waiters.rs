//! The waiters of a runtime, and the stream that listens to their documents.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    client::{Client, News, Subscription},
    names::DocumentName,
    targets::{Seat, Targets},
};

/// How often targets are checked.
const ROUND: Duration = Duration::from_secs(1);

/// The delay before a stream that has ended is reopened, and its maximum if streams deliver
/// nothing: the delay doubles each time up to that.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// All waiters of a runtime, and the one stream that listens to their documents.
#[derive(Default)]
pub(crate) struct Waiters {
    targets: Arc<Targets>,
    /// The task that keeps the stream. It ends with the backend.
    listener: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Waiters {
    /// Waits until the document of this name may have been deleted.
    pub(crate) async fn news(&self, client: &Arc<Client>, name: DocumentName) {
        let seat = Seat::take(&self.targets, name);
        let mut news = std::pin::pin!(seat.news.notified());
        // Registered before the listener is notified, so no event is missed.
        news.as_mut().enable();
        self.listen(client);
        if seat.is_first() {
            self.targets.wanted.notify_one();
        }
        news.await;
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
    let mut pause = FIRST_PAUSE;
    loop {
        while targets.is_empty() {
            targets.wanted.notified().await;
        }
        targets.want_all();
        let worked = match client.listen(&targets.take_wanted()).await {
            Ok(stream) => attend(stream, &targets).await,
            Err(failure) => {
                tracing::debug!(%failure, "releases cannot be listened for");
                false
            }
        };
        pause = if worked { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        sleep(pause).await;
        // While no stream can be opened, only this removes the documents that have no waiters.
        targets.sweep();
    }
}

/// Keeps the targets of a stream until it ends, or until there are no waiters. Returns whether the
/// stream delivered anything: a stream can be opened and then refused.
async fn attend(mut stream: Subscription, targets: &Targets) -> bool {
    let mut worked = false;
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            news = stream.news() => match news {
                News::Current(ids) => {
                    worked = true;
                    targets.confirm(&ids);
                }
                News::Deleted(name) => targets.tell(&name),
                News::Missed(ids) => targets.tell_of(&ids),
                News::Other => {}
                News::Ended => return worked,
            },
            () = targets.wanted.notified() => {}
            _ = rounds.tick() => {
                for id in targets.sweep() {
                    stream.subscriber().remove(id);
                }
                if targets.is_empty() {
                    return worked;
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

    use super::{Seat, Waiters};
    use crate::{
        client::{Client, Endpoint, Settings},
        clock::{Report, ServerClock},
        names::DocumentName,
    };

    /// No server listens there.
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
    async fn what_nobody_waits_on_any_more_is_forgotten_though_no_stream_can_be_had() {
        let (waiters, client) = (Waiters::default(), unreachable());
        let seat = Seat::take(&waiters.targets, DocumentName::new("a".to_owned()));
        waiters.listen(&client);
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(!waiters.targets.is_empty(), "somebody waits");
        drop(seat);
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(waiters.targets.is_empty());
    }
}
