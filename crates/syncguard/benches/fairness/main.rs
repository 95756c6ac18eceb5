//! How processes share a lock: one with eight waiters beside one with a single waiter, and what the
//! eight pay for it when they are alone.
//!
//! Run by `cargo bench -p syncguard --features sqlite,redis,postgres --bench fairness`; starts servers
//! of its own, and each process is this program again. Each line shows a bar and whether it is met.
//! With the argument `alone` it measures the eight alone, to be compared with a program that was built
//! from another commit; with `seconds N` it takes N seconds for each measurement instead of 30.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails panics")]

mod member;

use std::time::Duration;

use syncguard_testkit::{
    bench::{Bar, Table},
    server::{PostgresServer, RedisServer},
};

use self::member::{Task, together};

const HOLD: Duration = Duration::from_millis(20);
const MANY: usize = 8;

/// What the lone waiter must get: one grant in twenty, and never later than this.
const SHARE: f64 = 5.0;
const LONGEST: f64 = 1_500.0;

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.unwrap();
    // Cargo itself passes `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["member", url, task] = words[..] {
        return runtime.block_on(member::be(url, task.parse().unwrap()));
    }
    let seconds = words.iter().position(|word| *word == "seconds");
    let seconds = seconds.map_or(30, |index| words[index + 1].parse().unwrap());
    let time = Duration::from_secs(seconds);
    runtime.block_on(measure(time, words.contains(&"alone")));
}

async fn measure(time: Duration, alone: bool) {
    let directory = tempfile::tempdir().unwrap();
    let redis = RedisServer::builder().setting("save", "").start().await.unwrap();
    let postgres = PostgresServer::start().await.unwrap();
    let file = directory.path().join("locks.db");
    let stores = [
        ("SQLite", format!("sqlite://{}", file.display())),
        ("Redis", redis.url()),
        ("PostgreSQL", postgres.url()),
    ];
    let mut table = Table::default();
    for (name, url) in &stores {
        if !alone {
            beside(name, url, time, &mut table).await;
        }
        for hold in [HOLD, Duration::ZERO] {
            let did = together(url, [Task::new(MANY, hold, time)]).await[0];
            let what = format!("{name}: eight alone, hold {} ms", hold.as_millis());
            table.note(&what, did.rate(time), "/s");
        }
    }
    table.print();
}

/// Measures the eight beside the one.
async fn beside(name: &str, url: &str, time: Duration, table: &mut Table) {
    let crowd = Task::new(MANY, HOLD, time);
    let did = together(url, [crowd, Task { tasks: 1, ..crowd }]).await;
    let (many, one) = (did[0], did[1]);
    let all = many.grants + one.grants;
    table.note(&format!("{name}: grants of the eight"), many.grants, "");
    table.note(&format!("{name}: grants of the one"), one.grants, "");
    table.note(&format!("{name}: grants of all"), all / time.as_secs_f64(), "/s");
    let share = one.grants * 100.0 / all;
    table.judge(&format!("{name}: share of the one"), share, "%", Bar::AtLeast(SHARE));
    let longest = one.longest_wait_ms;
    table.judge(&format!("{name}: its longest wait"), longest, "ms", Bar::AtMost(LONGEST));
    let failed = many.failed + one.failed;
    table.judge(&format!("{name}: waits that failed"), failed, "", Bar::AtMost(0.0));
}
