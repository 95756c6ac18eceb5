use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU16, Ordering},
};

// Below the ephemeral ports, so that no outgoing connection takes the port of a server that is down
// for a moment, and no client that keeps connecting to it connects to itself. A Redis node in a
// cluster also listens on the port that is higher by 10,000.
const FIRST_PORT: u16 = 10_000;
const PORTS: u16 = 10_000;
const CLUSTER_BUS: u16 = 10_000;

/// The directory and the port of a server.
#[derive(Clone, Debug)]
pub struct Place {
    directory: PathBuf,
    port: u16,
}

impl Place {
    pub(super) fn new(directory: PathBuf, port: u16) -> Self {
        Self { directory, port }
    }

    /// Returns the data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.file("data")
    }

    /// Returns the path of a socket. An answer on the socket is certainly from this server, whereas
    /// an answer on the port may be from another one.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.file("socket")
    }

    /// Returns the path of a file outside the data directory.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Returns the port on the loopback interface.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns the address on the loopback interface.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn log(&self) -> PathBuf {
        self.file("log")
    }

    /// Returns the log after the first `offset` bytes, at most its last 8 KiB.
    pub(super) fn log_after(&self, offset: u64) -> String {
        const MAX_TAIL: usize = 8 * 1024;
        let log = fs::read(self.log()).unwrap_or_default();
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let start = offset.max(log.len().saturating_sub(MAX_TAIL));
        String::from_utf8_lossy(log.get(start..).unwrap_or_default()).into_owned()
    }
}

/// Returns ports of the loopback interface on which no process listened a moment ago.
///
/// Another process may take a port before it is used, so the caller must be prepared to try the
/// next.
pub(crate) fn free_ports() -> impl Iterator<Item = u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = spread(std::process::id());
    std::iter::repeat_with(move || {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        FIRST_PORT + start.wrapping_add(step) % PORTS
    })
    .take(usize::from(PORTS))
    .filter(|port| is_free(*port) && is_free(*port + CLUSTER_BUS))
}

// Concurrent processes have consecutive pids. Their first ports must be far from each other.
fn spread(pid: u32) -> u16 {
    // The golden section of the number of ports, and prime.
    let start = pid.wrapping_mul(6_173) % u32::from(PORTS);
    u16::try_from(start).unwrap_or_default()
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_on_which_a_process_listens_is_not_free() {
        let port = free_ports().next().unwrap();
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(!is_free(port));
    }

    #[test]
    fn processes_with_consecutive_pids_start_far_from_each_other() {
        for pid in 1..1_000 {
            for later in 1..8 {
                let distance = spread(pid).abs_diff(spread(pid + later));
                assert!(distance > 300, "{pid} and {later} more: {distance}");
            }
        }
    }
}
