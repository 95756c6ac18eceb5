use std::time::Duration;

use syncguard_core::{Renew, SyncGuard};
use syncguard_tests::{
    bench::{Bar, Table},
    proxy::Proxy,
    server::RedisServer,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::connect;

const HELD: usize = 10;
const LASTING: Duration = Duration::from_secs(60);
const TTL: Duration = Duration::from_secs(10);

/// Whether renewed locks stay held beside tasks that ask for other keys, at a server far away.
pub(crate) async fn measure(server: &RedisServer, table: &mut Table) {
    for tasks in [500, 1_200] {
        let proxy = Proxy::start(server.address()).await.unwrap();
        let locks = SyncGuard::new(connect(&server.url_through(proxy.address())).await);
        proxy.delay(Duration::from_millis(20));
        let mut held = Vec::new();
        for number in 0..HELD {
            let lock = locks.lock(format!("bench:held:{tasks}:{number}")).ttl(TTL);
            held.push(lock.renew(Renew::Auto).acquire().await.unwrap());
        }
        let end = Instant::now() + LASTING;
        let mut asking = JoinSet::new();
        for task in 0..tasks {
            let locks = locks.clone();
            asking.spawn(async move {
                let mut granted = 0_u32;
                while Instant::now() < end {
                    if let Ok(guard) = locks.lock(format!("bench:busy:{task}")).acquire().await {
                        granted += 1;
                        drop(guard.release().await);
                    }
                }
                granted
            });
        }
        let granted: u32 = asking.join_all().await.into_iter().sum();
        sleep(Duration::from_millis(1)).await;
        let valid = held.iter().filter(|guard| guard.is_valid()).count();
        let what = format!("renewed locks held after a minute beside {tasks} tasks, of {HELD}");
        table.judge(&what, valid as f64, "", Bar::AtLeast(HELD as f64));
        table.note("  … grants to those tasks", f64::from(granted), "");
    }
}
