use std::{
    ffi::OsString,
    io,
    net::SocketAddr,
    process::{Command, Stdio},
    sync::Arc,
};

use rustix::process::Signal;

use super::{
    account::Account,
    error::ServerError,
    handle::Server,
    layout::Layout,
    place::Place,
    program::{Program, Settings},
    shared::Shareable,
};
use crate::{
    cache::WeakCell,
    find::{Executable, Store},
};

/// PostgreSQL. Its settings are those of `postgresql.conf`.
///
/// The superuser `postgres` connects without a password; UTF-8, locale C.
#[derive(Debug)]
pub enum Postgres {}

/// A PostgreSQL server for one test.
pub type PostgresServer = Server<Postgres>;

impl Program for Postgres {
    const STORE: Store = Store::Postgres;
    const SERVER: Executable = Executable::POSTGRES;
    const CLIENT: Executable = Executable::PSQL;
    const USERS: &'static [&'static str] = &["postgres", "nobody"];
    // Each test of a run may open its own connections.
    const SHARED_SETTINGS: &'static [(&'static str, &'static str)] = &[("max_connections", "400")];
    // On SIGTERM it waits until all clients have disconnected.
    const STOP_SIGNAL: Signal = Signal::INT;

    async fn layout() -> Result<Option<Arc<Layout>>, ServerError> {
        static LAYOUT: WeakCell<Layout> = WeakCell::new();
        let account = Account::of(Self::SERVER, Self::USERS)?;
        let layout = Layout::create(Executable::INITDB, account, |data| {
            let data = format!("--pgdata={data}");
            let rest = "--username=postgres --auth=trust --encoding=UTF8 --locale=C --no-sync";
            std::iter::once(data).chain(rest.split(' ').map(str::to_owned)).collect()
        });
        LAYOUT.get_or_try_init(layout).await.map(Some)
    }

    fn arguments(place: &Place, settings: &Settings) -> io::Result<Vec<OsString>> {
        let mut arguments: Vec<OsString> = vec!["-D".into(), place.data_dir().into()];
        let own = [
            ("port", place.port().to_string()),
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("unix_socket_directories", String::new()),
        ];
        let own = own.map(|(name, value)| format!("{name}={value}"));
        let settings = settings.iter().map(|(name, value)| format!("{name}={value}"));
        for setting in own.into_iter().chain(settings) {
            arguments.extend(["-c".into(), setting.into()]);
        }
        Ok(arguments)
    }

    // As pg_ctl does: the first line of the file is the pid, the eighth the state.
    async fn is_ready(place: &Place, pid: u32) -> io::Result<bool> {
        let state = std::fs::read_to_string(place.data_dir().join("postmaster.pid"))?;
        let mut lines = state.lines().map(str::trim);
        Ok(lines.next() == Some(&pid.to_string()) && lines.nth(6) == Some("ready"))
    }

    // A killed server leaves its shared memory segment behind, and the kernel has room for 4,096.
    // The seventh line of the file names the segment, by its key and its id.
    fn clean_up(place: &Place) {
        let state = std::fs::read_to_string(place.data_dir().join("postmaster.pid"));
        let state = state.unwrap_or_default();
        let segment = state.lines().nth(6).and_then(|line| line.split_whitespace().nth(1));
        if let Some(id) = segment {
            // The segment may be gone already, and so may the tool.
            let mut remove = Command::new("ipcrm");
            let _ = remove.args(["--shmem-id", id]).stderr(Stdio::null()).status();
        }
    }

    fn client_arguments(address: SocketAddr) -> Vec<String> {
        let arguments = "--no-psqlrc --quiet --no-align --tuples-only --set=ON_ERROR_STOP=1";
        let mut arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        arguments.push(format!("--dbname={}", Self::STORE.url(address)));
        arguments
    }
}

impl Shareable for Postgres {
    fn cell() -> &'static WeakCell<Server<Self>> {
        static CELL: WeakCell<PostgresServer> = WeakCell::new();
        &CELL
    }
}
