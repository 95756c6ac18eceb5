use rustix::{
    process::Pid,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// Pins the client and the server to separate CPUs: this thread to the last CPU, and the server to
/// the others. Threads and processes that either starts afterwards inherit the affinity.
///
/// Two processes that share a CPU save the time of waking each other, which is longer than the work
/// that is measured. The scheduler moves them freely, so without pinning two connections to one
/// server are not comparable. On a machine with one CPU this does nothing.
pub fn pin_to_separate_cpus(server: u32) {
    let mut servers = sched_getaffinity(None).unwrap();
    let mut clients = CpuSet::new();
    let Some(last) = (0..CpuSet::MAX_CPU).rev().find(|cpu| servers.is_set(*cpu)) else { return };
    clients.set(last);
    servers.unset(last);
    if servers.count() > 0 {
        let server = i32::try_from(server).ok().and_then(Pid::from_raw);
        sched_setaffinity(server, &servers).unwrap();
        sched_setaffinity(None, &clients).unwrap();
    }
}
