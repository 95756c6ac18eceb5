use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    net::SocketAddr,
    path::Path,
    process::Stdio,
    time::Duration,
};

use tokio::time::sleep;

use super::{
    ServerError,
    account::{Lifetime, server_as},
    process::Process,
};
use crate::find::Store;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const PROGRAM: &str = "firestore-emulator";
const RUN: [&str; 6] = ["run", "--quiet", "--package", PROGRAM, "--", "--listen"];
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Starts the Firestore emulator of this workspace, and returns the address on which it listens.
/// Cargo builds it first, which may take minutes but always terminates; its standard error is
/// shown.
pub(super) async fn start(
    listen: SocketAddr,
    lifetime: Lifetime,
    directory: &Path,
) -> Result<(Process, SocketAddr), ServerError> {
    let cannot = || ServerError::cannot(format!("start {PROGRAM}"));
    let output = directory.join("output");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    // Cargo replaces itself with the program that it runs.
    let mut command = server_as(Path::new(&cargo), None, lifetime)?;
    command.args(RUN).arg(listen.to_string()).current_dir(ROOT).stdin(Stdio::null());
    command.stdout(File::create(&output).map_err(cannot())?);
    let mut process = Process::spawn(command).map_err(cannot())?;
    loop {
        let exited = process.try_wait().map_err(cannot())?;
        let printed = fs::read_to_string(&output).map_err(cannot())?;
        if let Some(address) = address(&printed) {
            return Ok((process, address));
        }
        if let Some(status) = exited {
            return Err(ServerError::Exited { program: PROGRAM, status, log: printed });
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Parses the line with which the emulator reports its address, once the line is complete.
fn address(printed: &str) -> Option<SocketAddr> {
    let line = printed.strip_suffix('\n')?.strip_prefix("export ")?;
    let address = line.strip_prefix(Store::Firestore.variable())?.strip_prefix('=')?;
    address.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn the_address_is_read_only_from_a_complete_line() {
        let line = "export FIRESTORE_EMULATOR_HOST=127.0.0.1:4567\n";
        assert_eq!(address(line), Some("127.0.0.1:4567".parse().unwrap()));
        for length in 0..line.len() {
            assert_eq!(address(&line[..length]), None);
        }
    }
}
