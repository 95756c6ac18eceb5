use std::{ffi::OsString, fmt::Debug, io, net::SocketAddr, sync::Arc};

use rustix::process::Signal;

use super::{error::ServerError, layout::Layout, place::Place};
use crate::find::{Executable, Store};

/// A name and a value for each setting, in the order in which they were made.
pub type Settings = [(String, String)];

/// A kind of server: what has to be known to start it, to ask it, and to stop it.
///
/// The rest is the same for all and written once, in [`Server`](super::Server).
pub trait Program: Sized + Debug + Send + Sync + 'static {
    /// What kind of store it is.
    const STORE: Store;

    /// What is started.
    const SERVER: Executable;

    /// The command line client.
    const CLIENT: Executable;

    /// Who runs it where it refuses to run as root: the first of these that exists. None where it
    /// does not mind.
    const USERS: &'static [&'static str] = &[];

    /// What makes it end in good order, whoever is connected.
    const END: Signal = Signal::TERM;

    /// The settings of a server that is shared by tests, because all of them can live with these.
    const SHARED: &'static [(&'static str, &'static str)] = &[];

    /// The data directory of a new server, where it cannot make one by itself.
    fn layout() -> impl Future<Output = Result<Option<Arc<Layout>>, ServerError>> + Send {
        async { Ok(None) }
    }

    /// Writes the settings down where it reads them, and gives its arguments. A later setting of a
    /// name wins over an earlier one.
    ///
    /// # Errors
    ///
    /// Where a file cannot be written.
    fn arguments(place: &Place, settings: &Settings) -> io::Result<Vec<OsString>>;

    /// Asks whether the server in this place, whose process has this number, takes requests by now.
    ///
    /// # Errors
    ///
    /// Those count as no.
    fn answers(place: &Place, pid: u32) -> impl Future<Output = io::Result<bool>> + Send;

    /// The arguments by which the command line client connects.
    fn client_arguments(address: SocketAddr) -> Vec<String>;
}
