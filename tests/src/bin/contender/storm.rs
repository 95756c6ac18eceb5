use std::{sync::Arc, time::Duration};

use syncguard::{BootClock, Clock, LockKey, LockManager, backend::Mode};
use syncguard_testkit::{history::Client, random};
use tokio::{task::JoinSet, time::sleep};

use crate::{Outcome, hold::Hold, member::Member, peer::Peer};

/// Often too short, so that the storm includes waits that time out at any moment.
const SHORT_WAIT: Duration = Duration::from_millis(200);

/// Longer than any wait should take. One of so many waits may be as long.
const LONG_WAIT: Duration = Duration::from_secs(60);
const LONG_WAIT_SHARE: usize = 8;

/// The pauses within a hold: it consists of up to twenty of them.
const PAUSE: Duration = Duration::from_millis(1);
/// Those in a convoy, which is to last for long enough that processes in line are killed.
const CONVOY_PAUSE: Duration = Duration::from_millis(10);

/// Locks until the end of the input.
pub(crate) async fn take_part(member: Arc<Member>, locks: LockManager) -> Outcome<()> {
    let mut tasks = JoinSet::new();
    for _ in 0..member.storm.tasks {
        tasks.spawn(contend(member.clone(), locks.clone()));
    }
    if member.storm.client == Client::Waiting {
        for key in member.storm.convoy_keys.clone() {
            tasks.spawn(join_convoys(member.clone(), locks.clone(), key));
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// Locks one random key after the other.
async fn contend(member: Arc<Member>, locks: LockManager) -> Outcome<()> {
    let mut peer = match member.storm.client {
        Client::TypeScript => {
            Some(Peer::connect(&member.url, member.storm.ttl.as_duration()).await?)
        }
        Client::Waiting | Client::Polling | Client::Unlocked => None,
    };
    while !member.input_ended.is_cancelled() {
        let key = random::one_of(&member.storm.keys)?;
        let limit = if random::below(LONG_WAIT_SHARE)? == 0 { LONG_WAIT } else { SHORT_WAIT };
        let mode = match member.storm.client {
            Client::TypeScript => Mode::Exclusive,
            _ => *random::one_of(&member.storm.modes)?,
        };
        let ttl = member.storm.ttl;
        let (wait, pause) = (random::millis_below(limit)?, PAUSE);
        Hold { member: &member, key, mode, ttl, wait, pause }.run(&locks, peer.as_mut()).await?;
    }
    Ok(())
}

/// Locks the key once in each convoy.
async fn join_convoys(member: Arc<Member>, locks: LockManager, key: LockKey) -> Outcome<()> {
    let modes = member.storm.modes.iter().filter(|mode| mode.permits().is_none());
    let modes: Vec<Mode> = modes.copied().collect();
    while next_convoy(&member).await {
        let (mode, ttl) = (*random::one_of(&modes)?, member.storm.convoy_ttl);
        let (wait, pause) = (LONG_WAIT, CONVOY_PAUSE);
        Hold { member: &member, key: &key, mode, ttl, wait, pause }.run(&locks, None).await?;
    }
    Ok(())
}

/// Waits for the beginning of the next convoy. Returns whether there is one.
async fn next_convoy(member: &Member) -> bool {
    let (now, period) = (BootClock.now().since_boot(), member.storm.convoy_period);
    let since_last = now.as_nanos() % period.as_nanos();
    let since_last = Duration::from_nanos(u64::try_from(since_last).unwrap_or_default());
    tokio::select! {
        () = member.input_ended.cancelled() => false,
        () = sleep(period - since_last) => true,
    }
}
