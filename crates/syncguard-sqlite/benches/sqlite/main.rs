//! Measures the cost of the backend: of a grant and its release, and of the hand-off of a lock to
//! another process.
//!
//! Run it with `cargo bench -p syncguard-sqlite`. With the argument `pair` it prints only two
//! numbers: the microseconds for a grant and its release on a current-thread and on a multi-thread
//! runtime. Compare them with those of a program that was built from another commit. `TMPDIR`
//! selects the file system.

#![expect(clippy::print_stdout, reason = "it prints numbers")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails panics")]

mod pair;

use std::path::Path;

use syncguard_core::LockManager;
use syncguard_sqlite::{SqliteBackend, SqliteConfig};
use syncguard_testkit::bench::{Table, handoffs, median, run_waiter};
use tokio::runtime::{Builder, Runtime};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["waiter", path] => wait(path.as_ref()),
        // Cargo itself passes `--bench`.
        ["pair", ..] => {
            println!("{:.1} {:.1}", pair::least(current_thread), pair::least(multi_thread))
        }
        _ => measure_all(),
    }
}

fn measure_all() {
    let mut table = Table::default();
    table.note("grant and release, current-thread runtime", pair::least(current_thread), "µs");
    table.note("grant and release, multi-thread runtime", pair::least(multi_thread), "µs");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("locks.db");
    let times = multi_thread().block_on(async {
        let locks =
            LockManager::new(SqliteBackend::connect(SqliteConfig::new(&path)).await.unwrap());
        handoffs(&locks, path.to_str().unwrap()).await
    });
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    table.note("release to entry in another process, mean", mean, "µs");
    let longest = times.iter().copied().fold(0.0, f64::max);
    table.note("release to entry in another process, p50", median(times), "µs");
    table.note("release to entry in another process, longest", longest, "µs");
    table.print();
}

fn wait(path: &Path) {
    multi_thread().block_on(async {
        run_waiter(LockManager::new(
            SqliteBackend::connect(SqliteConfig::new(path)).await.unwrap(),
        ))
        .await;
    });
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}
