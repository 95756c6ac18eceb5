//! Held locks beside many tasks that acquire others, through 20 ms each way.

use std::{
    env,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use syncguard_core::{LockGuard, Renew, SyncGuard};
use syncguard_tests::{
    bench::{Bar, Table},
    proxy::Proxy,
};
use tokio::task::JoinSet;

use crate::connect;

const HELD: usize = 10;
const TTL: Duration = Duration::from_secs(10);
const EACH_WAY: Duration = Duration::from_millis(20);

/// How long the tasks go on, in seconds, unless this variable says otherwise.
const SECONDS: &str = "SYNCGUARD_KEEPING_SECONDS";
const DEFAULT_SECONDS: u64 = 60;

static GRANTS: AtomicU64 = AtomicU64::new(0);

/// Counts the held locks that are valid at the end.
pub(crate) async fn measure(server: SocketAddr, table: &mut Table) {
    let seconds = env::var(SECONDS).ok().map(|text| text.parse().unwrap());
    let length = Duration::from_secs(seconds.unwrap_or(DEFAULT_SECONDS));
    for tasks in [500, 1_200] {
        let proxy = Proxy::start(server).await.unwrap();
        proxy.delay(EACH_WAY);
        let locks = SyncGuard::new(connect(proxy.address()));
        let held = hold(&locks, tasks).await;
        GRANTS.store(0, Ordering::Relaxed);
        let end = Instant::now() + length;
        let mut asking = JoinSet::new();
        for task in 0..tasks {
            asking.spawn(ask(locks.clone(), format!("{tasks} asked {task}"), end));
        }
        asking.join_all().await;
        let valid = held.iter().filter(|guard| guard.is_valid()).count();
        let grants = GRANTS.load(Ordering::Relaxed) as f64 / length.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "there are ten")]
        let lost = (HELD - valid) as f64;
        let what = format!("{tasks} tasks acquire, 20 ms each way");
        table.judge(&format!("{what}: lost of {HELD} held"), lost, "", Bar::AtMost(0.0));
        table.note(&format!("{what}: grants a second"), grants, "");
        for guard in held {
            guard.release().await.unwrap();
        }
    }
}

/// Takes locks that are renewed.
async fn hold(locks: &SyncGuard, tasks: usize) -> Vec<LockGuard> {
    let mut held = Vec::new();
    for number in 0..HELD {
        let lock = locks.lock(format!("{tasks} held {number}")).ttl(TTL).renew(Renew::Auto);
        held.push(lock.acquire().await.unwrap());
    }
    held
}

/// Acquires and releases one lock again and again. That it fails now and then is part of the load.
async fn ask(locks: SyncGuard, key: String, end: Instant) {
    while Instant::now() < end {
        if let Ok(guard) = locks.lock(&key).acquire().await {
            GRANTS.fetch_add(1, Ordering::Relaxed);
            drop(guard.release().await);
        }
    }
}
