//! The cost of the lock layer and of its telemetry, on the backend that is cheapest itself.
//!
//! Run it with `cargo bench -p syncguard-memory`. Results on a shared machine vary, so measurements
//! that are compared run alternately, and the median counts. With the argument `pair` it prints only
//! one number: the nanoseconds for a lock and its release, for comparison with a program that was
//! built from another commit.

#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails panics")]

mod pair;
mod sets;
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
        println!("{:.1}", runtime.block_on(pair::minimum(&locks)));
        return;
    }
    let mut table = Table::default();
    runtime.block_on(telemetry::measure(&mut table));
    runtime.block_on(sets::measure(&mut table));
    table.print();
}
