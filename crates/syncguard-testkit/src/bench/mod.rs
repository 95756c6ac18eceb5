//! What the benchmarks of backends have in common.

#![expect(clippy::print_stdout, reason = "it prints a table")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails panics")]

mod cpu_affinity;
mod handoff;
mod table;

pub use self::{
    cpu_affinity::apart,
    handoff::{SETTLE, handoffs, queue, wait_as_told},
    table::{Bar, Table, median, to_micros},
};
