//! What this process uses.

use std::{fs, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// Returns the processor time so far.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

/// Returns the resident memory in bytes.
pub(crate) fn resident() -> f64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u32 = pages.split_whitespace().nth(1).unwrap().parse().unwrap();
    f64::from(pages) * f64::from(u32::try_from(rustix::param::page_size()).unwrap())
}
