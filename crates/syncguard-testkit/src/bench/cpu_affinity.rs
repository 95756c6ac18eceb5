use rustix::{
    process::Pid,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// Gives the server and the client processors of their own: the last one to this thread and all
/// that it starts from now on, the others to the server and all that it starts from now on.
///
/// Two that talk to each other from one processor save the time to wake the other up, which is more
/// than the work that is measured. The system moves them as it likes, so without this two
/// connections to one server do not compare. With one processor there is nothing to part.
pub fn apart(server: u32) {
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
