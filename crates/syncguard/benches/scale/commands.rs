//! What a Redis server has done.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

/// Returns how many scripts the server has run for its clients.
pub(crate) fn script_calls(url: &str) -> f64 {
    let address = url.trim_start_matches("redis://").trim_end_matches('/');
    let address = address.rsplit('@').next().unwrap();
    let mut server = TcpStream::connect(address).unwrap();
    server.write_all(b"INFO commandstats\r\nQUIT\r\n").unwrap();
    let mut reply = String::new();
    server.read_to_string(&mut reply).unwrap();
    let count = |command: &str| {
        let calls = format!("cmdstat_{command}:calls=");
        let line = reply.lines().find_map(|line| line.strip_prefix(&calls));
        line.and_then(|line| line.split(',').next()).map_or(0.0, |count| count.parse().unwrap())
    };
    count("evalsha") + count("eval")
}
