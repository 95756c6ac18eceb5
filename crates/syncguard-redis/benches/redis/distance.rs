use std::{
    future::Future,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use fred::util::sha1_hash;
use syncguard_core::{LockId, backend::LockBackend};
use syncguard_testkit::{
    bench::{Bar, Table, median, to_micros},
    operations::{LONG, ask, granted, lock_of},
    proxy::Proxy,
    server::RedisServer,
};
use tokio::{sync::oneshot, task::JoinSet};

use crate::{
    bare::Bare,
    connect,
    raw::{ACQUIRE, RELEASE},
};

/// The delay in each direction.
const DELAY: Duration = Duration::from_millis(2);

const ACQUIRES: usize = 50;

/// The number of turns of each client.
const TURNS: usize = 3;

/// Measures how long one acquire takes on a distant server, by the number of tasks, each with its
/// own key.
///
/// One task by hand takes a round trip, the minimum for any client. Many tasks by hand take longer,
/// because the server runs their scripts one after the other. So the limit is relative to the same
/// number of tasks by hand.
pub(crate) async fn measure(server: &RedisServer, table: &mut Table) {
    let (address, _end) = far(server.address()).await;
    let backend = connect(&server.url_through(address)).await;
    let bare = Bare::connect(address).await;
    let hand = Hand::new(bare).await;
    let mut floor = None;
    for tasks in [1, 4, 16, 64] {
        let (mut by_hand, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            by_hand.extend(turn(tasks, |task| hand.clone().acquires(task)).await);
            ours.extend(
                turn(tasks, |task| {
                    let backend = backend.clone();
                    async move {
                        let mut trips = Vec::new();
                        for _ in 0..ACQUIRES {
                            let request = ask(&format!("bench:far:{task}"), LONG);
                            let start = Instant::now();
                            granted(&backend, &request).await;
                            trips.push(to_micros(start.elapsed()));
                            backend.release(&lock_of(&request)).await.unwrap();
                        }
                        trips
                    }
                })
                .await,
            );
        }
        let (by_hand, ours) = (median(by_hand), median(ours));
        let floor = *floor.get_or_insert(by_hand);
        let what = format!("acquire at 2 ms each way, {tasks} tasks");
        table.note(&format!("{what}, by hand, p50"), by_hand, "µs");
        table.note(&format!("{what}, p50"), ours, "µs");
        table.note("  … by hand beside one round trip by hand", by_hand / floor, "×");
        table.note("  … beside one round trip by hand", ours / floor, "×");
        table.judge("  … beside as many tasks by hand", ours / by_hand, "×", Bar::AtMost(1.15));
    }
}

/// Puts a server behind a proxy with a delay. The proxy has its own thread until the returned
/// sender is dropped.
async fn far(server: SocketAddr) -> (SocketAddr, oneshot::Sender<()>) {
    let (started, address) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let proxy = Proxy::start(server).await.unwrap();
            proxy.delay(DELAY);
            started.send(proxy.address()).unwrap();
            let _ = ended.await;
        });
    });
    (address.await.unwrap(), end)
}

/// Runs `tasks` tasks concurrently, and returns the times of all.
async fn turn<F: Future<Output = Vec<f64>> + Send + 'static>(
    tasks: usize,
    work: impl Fn(usize) -> F,
) -> Vec<f64> {
    let tasks: JoinSet<Vec<f64>> = (0..tasks).map(work).collect();
    tasks.join_all().await.into_iter().flatten().collect()
}

/// Calls the same scripts by hand.
#[derive(Clone)]
struct Hand {
    bare: Bare,
    acquire: String,
    release: String,
}

impl Hand {
    async fn new(bare: Bare) -> Self {
        for script in [ACQUIRE, RELEASE] {
            bare.call(&["SCRIPT", "LOAD", script]).await;
        }
        Self { bare, acquire: sha1_hash(ACQUIRE), release: sha1_hash(RELEASE) }
    }

    async fn acquires(self, task: usize) -> Vec<f64> {
        let mut trips = Vec::new();
        let (key, lock) = (format!("bench:hand:{task}"), format!("syncguard:bench:hand:{task}"));
        let (fence, shared) = (format!("syncguard:fence:{lock}"), format!("{lock}\u{37e}shared"));
        for _ in 0..ACQUIRES {
            let start = Instant::now();
            let id = LockId::mint().unwrap();
            let id_entry = format!("syncguard:id:{}", id.as_str());
            let head = format!(r#"{{"lockId":"{}","expiresAtMs":"#, id.as_str());
            let tail = format!(r#""key":"{key}"}}"#);
            let words = ["EVALSHA", &self.acquire, "4", &lock, &id_entry, &shared, &fence, &head];
            let arguments = ["60000", "61000", &tail];
            let granted = self.bare.call(&[&words[..], &arguments].concat()).await;
            trips.push(to_micros(start.elapsed()));
            assert_eq!(granted, "*2");
            let words = ["EVALSHA", &self.release, "3", &lock, &id_entry, &shared, &head];
            let released = self.bare.call(&[&words[..], &["PUBLISH"]].concat()).await;
            assert_eq!(released, ":1");
        }
        trips
    }
}
