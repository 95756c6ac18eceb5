//! Futures that are dropped in flight.

use std::process::Command;

use super::SharedDir;

const SOAK: &str = env!("CARGO_BIN_EXE_soak");

/// Long enough for hundreds of dropped futures.
const SECONDS: &str = "3";

#[test]
fn operations_that_are_dropped_in_flight_leave_nothing_behind_but_counters_and_tombstones() {
    let dir = SharedDir::new();
    let soak = Command::new(SOAK).args(["--seconds", SECONDS, &dir.url()]).output().unwrap();
    let output = String::from_utf8_lossy(&soak.stdout);
    assert!(soak.status.success(), "{output}{}", String::from_utf8_lossy(&soak.stderr));
}
