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

/// How long until a stream that could not be opened, or has ended, is opened again: from the first
/// attempt on twice as long each time, up to a limit.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Resolves when the key may have become free.
///
/// The first poll asks for the document. Until the server has told how it is, a release may slip
/// through, so that it has is news by itself; so is a new stream after a broken one. Where there is no
/// stream to be had this never resolves, and the caller's schedule takes over.
pub(crate) async fn released(store: &Store, key: &LockKey) {
    let Ok(name) = store.layout.lock(key) else {
        // Without a name there is no lock either; an attempt says so.
        return std::future::pending().await;
    };
    let seat = Seat::take(&store.waiters.targets, name);
    let mut news = std::pin::pin!(seat.news.notified());
    // Heard from here on, before anybody is asked to listen.
    news.as_mut().enable();
    if seat.is_first() {
        store.waiters.listen(&store.client);
    }
    news.await;
}

/// All who wait, and the one stream on which their documents are listened to.
#[derive(Default)]
pub(crate) struct Waiters {
    targets: Arc<Targets>,
    /// The task that keeps the stream. It ends with the backend.
    listener: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Waiters {
    /// Tells the listener that a document is wanted, after starting one if need be: its runtime may
    /// have ended.
    fn listen(&self, client: &Arc<Client>) {
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if listener.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
            let listening = listen(client.clone(), self.targets.clone());
            *listener = Some(AbortOnDropHandle::new(tokio::spawn(listening)));
        }
        self.targets.wanted.notify_one();
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
        match client.listen(&targets.take_wanted()).await {
            Ok(stream) => {
                pause = FIRST_PAUSE;
                attend(stream, &targets).await;
            }
            Err(failure) => {
                tracing::debug!(%failure, "releases cannot be listened for");
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        sleep(pause).await;
    }
}

/// Keeps the targets of a stream until it ends, or until nobody waits any more.
async fn attend(mut stream: Subscription, targets: &Targets) {
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            news = stream.news() => match news {
                News::Current(ids) => targets.confirm(&ids),
                News::Deleted(name) => targets.tell(&name),
                News::Missed(ids) => targets.tell_of(&ids),
                News::Other => {}
                News::Ended => return,
            },
            () = targets.wanted.notified() => {}
            _ = rounds.tick() => {
                for id in targets.sweep() {
                    stream.subscriber().remove(id);
                }
                if targets.is_empty() {
                    return;
                }
            }
        }
        for (id, name) in targets.take_wanted() {
            stream.subscriber().add(id, &name);
        }
    }
}
