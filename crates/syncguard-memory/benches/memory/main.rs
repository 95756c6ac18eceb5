//! What the lock layer and its telemetry cost, on the backend that costs least itself.
//!
//! Run by `cargo bench -p syncguard-memory`. The numbers of a shared machine swing, so what is compared
//! runs side by side, in turns, and the median of the comparisons counts. With the argument `pair` it
//! prints one number alone: the nanoseconds for a lock and its release, to be compared with those of a
//! program that was built from another commit.

#![expect(clippy::print_stdout, reason = "it prints a number")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails panics")]

mod pair;
mod telemetry;

use syncguard_core::LockManager;
use syncguard_memory::MemoryBackend;
use syncguard_testkit::bench::Table;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.unwrap();
    // Cargo itself passes `--bench`.
    if std::env::args().nth(1).is_some_and(|argument| argument == "pair") {
        let locks = LockManager::new(MemoryBackend::new());
        println!("{:.1}", runtime.block_on(pair::least(&locks)));
        return;
    }
    let mut table = Table::default();
    runtime.block_on(telemetry::measure(&mut table));
    table.print();
}
