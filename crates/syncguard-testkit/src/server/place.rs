use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU16, Ordering},
};

// Below the ports that systems give to outgoing connections, so that none of those takes the port
// of a server that is down for a moment, and no client that keeps connecting to it reaches itself.
// A Redis node in a cluster also listens 10,000 above.
const FIRST_PORT: u16 = 10_000;
const PORTS: u16 = 10_000;
const CLUSTER_BUS: u16 = 10_000;

/// Where a server keeps its files and listens.
#[derive(Clone, Debug)]
pub struct Place {
    directory: PathBuf,
    port: u16,
}

impl Place {
    pub(super) fn new(directory: PathBuf, port: u16) -> Self {
        Self { directory, port }
    }

    /// The server's own data.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.file("data")
    }

    /// A socket beside the port. Whoever answers there is this server and no other, which an answer
    /// on the port would not prove.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.file("socket")
    }

    /// The file of this name, outside the data.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The port on the loopback interface.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The address on the loopback interface.
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

    /// What the server has printed after the first `offset` bytes, or the end of it.
    pub(super) fn printed_after(&self, offset: u64) -> String {
        const LONGEST: usize = 8 * 1024;
        let log = fs::read(self.log()).unwrap_or_default();
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let start = offset.max(log.len().saturating_sub(LONGEST));
        String::from_utf8_lossy(log.get(start..).unwrap_or_default()).into_owned()
    }
}

/// Ports of the loopback interface on which nobody listened a moment ago, one after the other.
///
/// Somebody may take a port before it is used: whoever uses it has to be ready to try the next.
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

// Processes that run at once, with neighbouring numbers, begin far from each other.
fn spread(number: u32) -> u16 {
    // The golden section of the number of ports, and prime.
    let place = number.wrapping_mul(6_173) % u32::from(PORTS);
    u16::try_from(place).unwrap_or_default()
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_listened_on_is_passed_over() {
        let port = free_ports().next().unwrap();
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(!is_free(port));
    }

    #[test]
    fn processes_with_neighbouring_numbers_begin_far_from_each_other() {
        for number in 1..1_000 {
            for later in 1..8 {
                let apart = spread(number).abs_diff(spread(number + later));
                assert!(apart > 300, "{number} and {later} more: {apart}");
            }
        }
    }
}
