use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use syncguard::{LockManager, Renew};
use tokio::{task::JoinSet, time::sleep};

use crate::{Options, place::Place};

/// How long a message takes each way.
const DELAY: Duration = Duration::from_millis(20);

const TTL: Duration = Duration::from_secs(10);

/// What those who ask have seen.
#[derive(Default)]
struct Seen {
    granted: AtomicU64,
    failed: AtomicU64,
    /// Of the failed, those of which it is certain that nothing was applied.
    unchanged: AtomicU64,
}

pub(crate) async fn measure(place: &Place, options: &Options) {
    let (held, tasks) = (options.of("held", 10), options.of("tasks", 500));
    let seconds = options.of("seconds", 60);
    let locks = LockManager::new(place.connect().await);
    place.proxy.delay(DELAY);
    let mut guards = Vec::new();
    for number in 0..held {
        let lock = locks.lock(format!("held:{number}")).ttl(TTL).renew(Renew::Auto);
        guards.push(lock.acquire().await.unwrap());
    }
    let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
    let mut asking = JoinSet::new();
    for task in 0..tasks {
        asking.spawn(ask(locks.clone(), format!("other:{task}"), seen.clone(), stop.clone()));
    }
    let valid = || guards.iter().filter(|guard| guard.is_valid()).count();
    for second in 1..=seconds {
        sleep(Duration::from_secs(1)).await;
        println!(
            "{second:>4} s: {:>3} of {held} valid, {} granted, {} failed, {} of them unchanged, \
             {} connections begun",
            valid(),
            seen.granted.load(Relaxed),
            seen.failed.load(Relaxed),
            seen.unchanged.load(Relaxed),
            place.proxy.counts().connections,
        );
    }
    println!("busy: {} of {held} valid after {seconds} s beside {tasks} tasks", valid());
    stop.store(true, Relaxed);
    asking.shutdown().await;
}

async fn ask(locks: LockManager, key: String, seen: Arc<Seen>, stop: Arc<AtomicBool>) {
    while !stop.load(Relaxed) {
        match locks.lock(&key).ttl(TTL).acquire().await {
            Ok(guard) => {
                seen.granted.fetch_add(1, Relaxed);
                drop(guard.release().await);
            }
            Err(error) => {
                seen.failed.fetch_add(1, Relaxed);
                seen.unchanged.fetch_add(u64::from(!error.may_have_applied()), Relaxed);
            }
        }
    }
}
