use std::time::{Duration, Instant};

use syncguard::{LockGuard, LockManager, Renew};
use tokio::{task::JoinSet, time::sleep};

use crate::{Options, place::Place};

/// How many acquire at a time.
const ACQUIRERS: u64 = 64;

pub(crate) async fn measure(place: &Place, options: &Options) {
    let (held, seconds) = (options.of("held", 10_000), options.of("seconds", 12));
    let ttl = Duration::from_secs(options.of("ttl", 30));
    let locks = LockManager::new(place.connect().await);
    let begun = Instant::now();
    let guards = acquire(&locks, held, ttl).await;
    println!("{held} acquired in {:?}", begun.elapsed());
    watch(place, &guards, "before", ttl / 3).await;
    let stalling = async {
        place.stall(Duration::from_secs(seconds)).await;
        println!("the server goes on");
    };
    // The watch begins with the stall and goes on for a ttl after it.
    tokio::join!(stalling, watch(place, &guards, "after", Duration::from_secs(seconds) + ttl));
    let lost = held - valid(&guards);
    println!("stall: {lost} of {held} lost over {seconds} s with a ttl of {ttl:?}");
}

async fn acquire(locks: &LockManager, held: u64, ttl: Duration) -> Vec<LockGuard> {
    let mut acquiring = JoinSet::new();
    for acquirer in 0..ACQUIRERS {
        let locks = locks.clone();
        acquiring.spawn(async move {
            let mut guards = Vec::new();
            for number in (acquirer..held).step_by(64) {
                let lock = locks.lock(format!("held:{number}")).ttl(ttl).renew(Renew::Auto);
                guards.push(lock.acquire().await.unwrap());
            }
            guards
        });
    }
    acquiring.join_all().await.into_iter().flatten().collect()
}

/// Prints each second how many are valid, and how many connections were begun in it.
async fn watch(place: &Place, guards: &[LockGuard], when: &str, time: Duration) {
    let mut connections = place.proxy.counts().connections;
    for second in 1..=time.as_secs() {
        sleep(Duration::from_secs(1)).await;
        let now = place.proxy.counts().connections;
        println!(
            "{when} {second:>4} s: {} valid, {} connections begun",
            valid(guards),
            now - connections
        );
        connections = now;
    }
}

fn valid(guards: &[LockGuard]) -> u64 {
    guards.iter().filter(|guard| guard.is_valid()).count() as u64
}
