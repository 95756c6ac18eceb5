use std::{ffi::OsString, io, net::SocketAddr, sync::Arc};

use tokio::{io::AsyncReadExt, net::UnixStream};

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

// Must be the same in both calls, otherwise the server recreates the log.
const SMALL_LOG: &str = "--innodb-log-file-size=8M";

/// MariaDB. Its settings are options of `mariadbd`, without the dashes.
///
/// The user `root` connects without a password, to the database `test`. The log of InnoDB is small
/// (8 MiB), because all of it is written for each server.
#[derive(Debug)]
pub enum Mariadb {}

/// A MariaDB server for one test.
pub type MariadbServer = Server<Mariadb>;

impl Program for Mariadb {
    const STORE: Store = Store::Mariadb;
    const SERVER: Executable = Executable::MARIADBD;
    const CLIENT: Executable = Executable::MARIADB;
    const USERS: &'static [&'static str] = &["mysql", "nobody"];
    const SHARED_SETTINGS: &'static [(&'static str, &'static str)] = &[("max-connections", "400")];

    async fn layout() -> Result<Option<Arc<Layout>>, ServerError> {
        static LAYOUT: WeakCell<Layout> = WeakCell::new();
        let account = Account::of(Self::SERVER, Self::USERS)?;
        let layout = Layout::create(Executable::MARIADB_INSTALL_DB, account, |data| {
            let data = format!("--datadir={data}");
            let (method, names) =
                ("--auth-root-authentication-method=normal", "--skip-name-resolve");
            // `--no-defaults` must be the first argument.
            let arguments = ["--no-defaults", &data, method, names, SMALL_LOG];
            arguments.map(str::to_owned).into()
        });
        LAYOUT.get_or_try_init(layout).await.map(Some)
    }

    fn arguments(place: &Place, settings: &Settings) -> io::Result<Vec<OsString>> {
        let with_path = |option: &str, path: std::path::PathBuf| {
            let mut argument = OsString::from(option);
            argument.push(path);
            argument
        };
        let mut arguments = vec![
            "--no-defaults".into(),
            with_path("--datadir=", place.data_dir()),
            with_path("--socket=", place.socket()),
            with_path("--pid-file=", place.file("pid")),
            format!("--port={}", place.port()).into(),
            "--bind-address=127.0.0.1".into(),
            "--skip-name-resolve".into(),
            SMALL_LOG.into(),
        ];
        let settings = settings.iter().map(|(name, value)| match value.as_str() {
            "" => format!("--{name}").into(),
            value => format!("--{name}={value}").into(),
        });
        arguments.extend(settings);
        Ok(arguments)
    }

    // The server sends a greeting: a length of three bytes, a number, and then 10, the version of
    // the protocol.
    async fn is_ready(place: &Place, _pid: u32) -> io::Result<bool> {
        let mut greeting = [0; 5];
        let mut connection = UnixStream::connect(place.socket()).await?;
        connection.read_exact(&mut greeting).await?;
        Ok(greeting[4] == 10)
    }

    fn client_arguments(address: SocketAddr) -> Vec<String> {
        let (host, port) = (address.ip(), address.port());
        [
            "--no-defaults".to_owned(),
            "--protocol=tcp".to_owned(),
            format!("--host={host}"),
            format!("--port={port}"),
            "--user=root".to_owned(),
            "--database=test".to_owned(),
            "--batch".to_owned(),
            "--skip-column-names".to_owned(),
        ]
        .into()
    }
}

impl Shareable for Mariadb {
    fn cell() -> &'static WeakCell<Server<Self>> {
        static CELL: WeakCell<MariadbServer> = WeakCell::new();
        &CELL
    }
}
