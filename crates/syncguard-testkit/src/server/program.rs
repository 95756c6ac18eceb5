use std::{ffi::OsString, fmt::Debug, io, net::SocketAddr, sync::Arc};

use rustix::process::Signal;

use super::{error::ServerError, layout::Layout, place::Place};
use crate::find::{Executable, Store};

/// The name and the value of each setting, in the order in which they were set.
pub type Settings = [(String, String)];

/// A kind of server: what is needed to start, query and stop it.
///
/// The code that is the same for all kinds is in [`Server`](super::Server).
pub trait Program: Sized + Debug + Send + Sync + 'static {
    /// The kind of store.
    const STORE: Store;

    /// The program of the server.
    const SERVER: Executable;

    /// The command line client.
    const CLIENT: Executable;

    /// The users that can run a server that refuses to run as root: the first of these that exists
    /// does. Empty if the server runs as root.
    const USERS: &'static [&'static str] = &[];

    /// The signal that shuts the server down gracefully, even if clients are connected.
    const STOP_SIGNAL: Signal = Signal::TERM;

    /// The settings of a server that tests share, which suit all of them.
    const SHARED_SETTINGS: &'static [(&'static str, &'static str)] = &[];

    /// Returns the data directory of a new server, `None` if the server creates one by itself.
    fn layout() -> impl Future<Output = Result<Option<Arc<Layout>>, ServerError>> + Send {
        async { Ok(None) }
    }

    /// Writes the configuration file, if any, and returns the arguments of the server. A later
    /// setting of a name overrides an earlier one.
    ///
    /// # Errors
    ///
    /// If a file cannot be written.
    fn arguments(place: &Place, settings: &Settings) -> io::Result<Vec<OsString>>;

    /// Returns whether the server in this place, with this pid, accepts requests.
    ///
    /// # Errors
    ///
    /// An error means that it is not ready.
    fn is_ready(place: &Place, pid: u32) -> impl Future<Output = io::Result<bool>> + Send;

    /// Removes what a server that was killed leaves outside its directory. It will not be started
    /// again.
    fn clean_up(_place: &Place) {}

    /// Returns the arguments with which the command line client connects.
    fn client_arguments(address: SocketAddr) -> Vec<String>;
}
