use std::{ffi::OsString, fs, io, net::SocketAddr};

use tokio::net::UnixStream;

use super::{Builder, Place, Postgres, Program, Server, program::Settings};
use crate::find::{Executable, Store};

/// The name under which [`PgBouncer::before`] hands over where the server is. It is none of
/// pgbouncer's.
const UPSTREAM: &str = "upstream";

/// pgbouncer, a pooler before a PostgreSQL server. Its settings are those of its section in
/// `pgbouncer.ini`.
///
/// It gives out connections for single transactions, unless told otherwise. Everybody comes in, as
/// the superuser `postgres`.
#[derive(Debug)]
pub enum PgBouncer {}

/// A pgbouncer of one's own.
pub type PgBouncerServer = Server<PgBouncer>;

impl PgBouncer {
    /// Describes a pooler before the server at this address, which must let `postgres` in without a
    /// password.
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

    async fn answers(place: &Place, _pid: u32) -> io::Result<bool> {
        let socket = place.data_dir().join(format!(".s.PGSQL.{}", place.port()));
        UnixStream::connect(socket).await.map(|_| true)
    }

    fn client_arguments(address: SocketAddr) -> Vec<String> {
        Postgres::client_arguments(address)
    }
}
