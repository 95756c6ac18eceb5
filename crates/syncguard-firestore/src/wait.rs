//! Waiting for a release, by whichever process and in whichever language: all of them delete the
//! document of the lock.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use syncguard_core::LockKey;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    backend::Store,
    client::{Client, News, Subscription},
    targets::{Seat, Targets},
};

/// How often targets are looked through.
const ROUND: Duration = Duration::from_secs(1);

/// How long until a stream that has ended is opened again, and how long at the most where streams tell
/// nothing: twice as long each time up to that.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Resolves when the key may have become free.
///
/// The first poll asks for the document. Until the server has told how it is, a release may slip
/// through, so that it has is news by itself; so is a new stream after a broken one. Where there is no
/// stream to be had this never resolves, and the caller's schedule takes over.
pub(crate) async fn released(store: &Store, key: &LockKey) {
    let (Ok(name), Ok(waiters)) = (store.layout.lock(key), store.waiters.here()) else {
        // Without a name or a runtime there is no lock either; an attempt reports that.
        return std::future::pending().await;
    };
    let seat = Seat::take(&waiters.targets, name);
    let mut news = std::pin::pin!(seat.news.notified());
    // Heard from here on, before anybody is asked to listen.
    news.as_mut().enable();
    waiters.listen(&store.client);
    if seat.is_first() {
        waiters.targets.wanted.notify_one();
    }
    news.await;
}

/// All waiters of a runtime, and the one stream on which their documents are listened to.
#[derive(Default)]
pub(crate) struct Waiters {
    targets: Arc<Targets>,
    /// The task that keeps the stream. It ends with the backend.
    listener: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Waiters {
    /// Starts the listener, unless it runs.
    fn listen(&self, client: &Arc<Client>) {
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if listener.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
            let listening = listen(client.clone(), self.targets.clone());
            *listener = Some(AbortOnDropHandle::new(tokio::spawn(listening)));
        }
    }
}

/// Keeps a stream for as long as somebody waits, over as many streams as it takes.
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
        // Where no stream is to be had, nobody else forgets what nobody waits on.
        targets.sweep();
    }
}

/// Keeps the targets of a stream until it ends, or until nobody waits any more. Tells whether the stream
/// told anything: one can be opened and then refused.
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
        layout::DocumentName,
    };

    /// Nobody listens there.
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
