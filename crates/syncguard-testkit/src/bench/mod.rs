//! Code shared by the benchmarks of the backends.

#![expect(clippy::print_stdout, reason = "it prints a table")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails panics")]

mod cpu_affinity;
mod handoff;
mod table;

pub use self::{
    cpu_affinity::pin_to_separate_cpus,
    handoff::{SETTLE, handoffs, hold, queue, run_waiter},
    table::{Bar, Table, median, to_micros},
};
