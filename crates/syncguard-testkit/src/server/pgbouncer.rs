use std::{ffi::OsString, fs, io, net::SocketAddr};

use tokio::net::UnixStream;

use super::{Builder, Place, Postgres, Program, Server, program::Settings};
use crate::find::{Executable, Store};

/// The setting in which [`PgBouncer::before`] passes the address of the server. It is not a setting
/// of pgbouncer.
const UPSTREAM: &str = "upstream";

/// pgbouncer, a pooler in front of a PostgreSQL server. Its settings are those of its section in
/// `pgbouncer.ini`.
///
/// By default it pools transactions. Every client is admitted, as the superuser `postgres`.
#[derive(Debug)]
pub enum PgBouncer {}

/// A pgbouncer for one test.
pub type PgBouncerServer = Server<PgBouncer>;

impl PgBouncer {
    /// Configures a pooler in front of the server at this address, which must admit `postgres`
    /// without a password.
    pub fn before(server: SocketAddr) -> Builder<Self> {
        let (host, port) = (server.ip(), server.port());
        Builder::new().setting(UPSTREAM, format!("host={host} port={port}"))
    }
}

impl Program for PgBouncer {
    const STORE: Store = Store::Postgres;
    const SERVER: Executable = Executable::PGBOUNCER;
    const CLIENT: Executable = Executable::PSQL;
    const USERS: &'static [&'static str] = Postgres::USERS;

    fn arguments(place: &Place, settings: &Settings) -> io::Result<Vec<OsString>> {
        let upstream = settings.iter().find(|(name, _)| name == UPSTREAM);
        let upstream = upstream.map_or("host=127.0.0.1", |(_, server)| server.as_str());
        let mut lines = vec![
            "[databases]".to_owned(),
            format!("* = {upstream} user=postgres"),
            "[pgbouncer]".to_owned(),
            "listen_addr = 127.0.0.1".to_owned(),
            format!("listen_port = {}", place.port()),
            format!("unix_socket_dir = {}", place.data_dir().display()),
            "auth_type = any".to_owned(),
            "pool_mode = transaction".to_owned(),
        ];
        let own = settings.iter().filter(|(name, _)| name != UPSTREAM);
        lines.extend(own.map(|(name, value)| format!("{name} = {value}")));
        let file = place.file("pgbouncer.ini");
        fs::write(&file, lines.join("\n") + "\n")?;
        Ok(vec![file.into()])
    }

    async fn is_ready(place: &Place, _pid: u32) -> io::Result<bool> {
        let socket = place.data_dir().join(format!(".s.PGSQL.{}", place.port()));
        UnixStream::connect(socket).await.map(|_| true)
    }

    fn client_arguments(address: SocketAddr) -> Vec<String> {
        Postgres::client_arguments(address)
    }
}
