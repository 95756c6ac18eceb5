use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use syncguard::{BootClock, BootInstant, Clock, LockKey, LockManager, backend::Mode};
use syncguard_testkit::{
    contender::Storm,
    history::{Client, Event, Journal, Record},
    random,
};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{Outcome, hold::Hold, peer::Peer};

/// Often too short, so that the storm includes waits that time out at any moment.
const SHORT_WAIT: Duration = Duration::from_millis(200);

/// Longer than any wait should take. One of so many waits may be as long.
const LONG_WAIT: Duration = Duration::from_secs(60);
const LONG_WAIT_SHARE: usize = 8;

/// The pauses within a hold: it consists of up to twenty of them.
const PAUSE: Duration = Duration::from_millis(1);
/// Those in a convoy, which is to last for long enough that processes in line are killed.
const CONVOY_PAUSE: Duration = Duration::from_millis(10);

/// The part of this process in a storm.
pub(crate) struct Member {
    pub(crate) storm: Storm,
    url: String,
    journal: Journal,
    waits: AtomicU64,
    input_ended: CancellationToken,
}

impl Member {
    pub(crate) fn new(storm: Storm, url: String) -> Outcome<Arc<Self>> {
        let (journal, input_ended) = (Journal::open(&storm.journal)?, end_of_input());
        Ok(Arc::new(Self { storm, url, journal, waits: AtomicU64::new(0), input_ended }))
    }

    /// Locks until the end of the input.
    pub(crate) async fn take_part(self: Arc<Self>, locks: LockManager) -> Outcome<()> {
        let mut tasks = JoinSet::new();
        for _ in 0..self.storm.tasks {
            tasks.spawn(self.clone().contend(locks.clone()));
        }
        if self.storm.client == Client::Waiting {
            for key in self.storm.convoy_keys.clone() {
                tasks.spawn(self.clone().join_convoys(locks.clone(), key));
            }
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(())
    }

    /// Records an event of this process.
    pub(crate) fn record(&self, at: BootInstant, event: Event) -> Outcome<()> {
        let process = self.storm.process;
        Ok(self.journal.write(&Record { process, at, event })?)
    }

    /// Returns the number of another wait.
    pub(crate) fn next_wait(&self) -> u64 {
        self.waits.fetch_add(1, Ordering::Relaxed)
    }

    /// Locks one random key after the other.
    async fn contend(self: Arc<Self>, locks: LockManager) -> Outcome<()> {
        let mut peer = match self.storm.client {
            Client::TypeScript => {
                Some(Peer::connect(&self.url, self.storm.ttl.as_duration()).await?)
            }
            Client::Waiting | Client::Polling | Client::Unlocked => None,
        };
        while !self.input_ended.is_cancelled() {
            let key = random::one_of(&self.storm.keys)?;
            let limit = if random::below(LONG_WAIT_SHARE)? == 0 { LONG_WAIT } else { SHORT_WAIT };
            let mode = match self.storm.client {
                Client::TypeScript => Mode::Exclusive,
                _ => *random::one_of(&self.storm.modes)?,
            };
            let (member, ttl) = (&*self, self.storm.ttl);
            let (wait, pause) = (random::millis_below(limit)?, PAUSE);
            Hold { member, key, mode, ttl, wait, pause }.run(&locks, peer.as_mut()).await?;
        }
        Ok(())
    }

    /// Locks the key once in each convoy.
    async fn join_convoys(self: Arc<Self>, locks: LockManager, key: LockKey) -> Outcome<()> {
        let modes = self.storm.modes.iter().filter(|mode| mode.permits().is_none());
        let modes: Vec<Mode> = modes.copied().collect();
        while self.next_convoy().await {
            let (member, mode, ttl) = (&*self, *random::one_of(&modes)?, self.storm.convoy_ttl);
            let (wait, pause) = (LONG_WAIT, CONVOY_PAUSE);
            Hold { member, key: &key, mode, ttl, wait, pause }.run(&locks, None).await?;
        }
        Ok(())
    }

    /// Waits for the beginning of the next convoy. Returns whether there is one.
    async fn next_convoy(&self) -> bool {
        let (now, period) = (BootClock.now().since_boot(), self.storm.convoy_period);
        let since_last = now.as_nanos() % period.as_nanos();
        let since_last = Duration::from_nanos(u64::try_from(since_last).unwrap_or_default());
        tokio::select! {
            () = self.input_ended.cancelled() => false,
            () = sleep(period - since_last) => true,
        }
    }
}

/// Returns a token that is cancelled at the end of the standard input.
fn end_of_input() -> CancellationToken {
    let input_ended = CancellationToken::new();
    let token = input_ended.clone();
    std::thread::spawn(move || {
        io::stdin().lines().for_each(drop);
        token.cancel();
    });
    input_ended
}
