use std::{ffi::OsString, fs, io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::{
    handle::Server,
    place::Place,
    program::{Program, Settings},
    shared::Shareable,
};
use crate::{
    cache::WeakCell,
    find::{Executable, Store},
};

/// Redis, or Valkey. Its settings are lines of `redis.conf`.
#[derive(Debug)]
pub enum Redis {}

/// A Redis server for one test.
pub type RedisServer = Server<Redis>;

impl Program for Redis {
    const STORE: Store = Store::Redis;
    const SERVER: Executable = Executable::REDIS_SERVER;
    const CLIENT: Executable = Executable::REDIS_CLI;
    // The settings that locks require.
    const SHARED_SETTINGS: &'static [(&'static str, &'static str)] =
        &[("appendonly", "yes"), ("maxmemory-policy", "noeviction")];

    // A file, because some settings hold several words, and because a sentinel wants to write
    // there.
    fn arguments(place: &Place, settings: &Settings) -> io::Result<Vec<OsString>> {
        let mut lines = vec![
            "bind 127.0.0.1".to_owned(),
            format!("port {}", place.port()),
            format!("dir \"{}\"", place.data_dir().display()),
            format!("unixsocket \"{}\"", place.socket().display()),
            "unixsocketperm 700".to_owned(),
        ];
        lines.extend(settings.iter().map(|(name, value)| match value.as_str() {
            "" => format!("{name} \"\""),
            value => format!("{name} {value}"),
        }));
        let file = place.file("redis.conf");
        fs::write(&file, lines.join("\n") + "\n")?;
        Ok(vec![file.into()])
    }

    async fn is_ready(place: &Place, _pid: u32) -> io::Result<bool> {
        let mut connection = UnixStream::connect(place.socket()).await?;
        connection.write_all(b"PING\r\n").await?;
        let mut reply = [0; 64];
        let length = connection.read(&mut reply).await?;
        // An error is an answer as well, except for the one that it is still loading its data.
        Ok(length > 0 && !reply.starts_with(b"-LOADING"))
    }

    fn client_arguments(address: SocketAddr) -> Vec<String> {
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        // `-e`: an error reply makes the client fail.
        ["-h", &host, "-p", &port, "-e"].map(str::to_owned).into()
    }
}

impl Shareable for Redis {
    fn cell() -> &'static WeakCell<Server<Self>> {
        static CELL: WeakCell<RedisServer> = WeakCell::new();
        &CELL
    }
}
