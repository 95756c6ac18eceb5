//! Commands to a Redis server, and what it has done.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    thread,
};

/// Sends commands, one per line, and returns the replies.
pub(crate) fn send(url: &str, commands: impl Iterator<Item = String>) -> String {
    let address = url.trim_start_matches("redis://").trim_end_matches('/');
    let mut server = TcpStream::connect(address.rsplit('@').next().unwrap()).unwrap();
    let mut replies = server.try_clone().unwrap();
    let reading = thread::spawn(move || {
        let mut text = String::new();
        replies.read_to_string(&mut text).map(|_| text)
    });
    let mut text = String::new();
    for command in commands {
        text.push_str(&command);
        text.push_str("\r\n");
        if text.len() > 1 << 16 {
            server.write_all(text.as_bytes()).unwrap();
            text.clear();
        }
    }
    text.push_str("QUIT\r\n");
    server.write_all(text.as_bytes()).unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    reading.join().unwrap().unwrap()
}

/// Returns a number of a section of `INFO`, by what its line begins with.
fn info(url: &str, section: &str, begins: &str) -> f64 {
    let reply = send(url, [format!("INFO {section}")].into_iter());
    let line = reply.lines().find_map(|line| line.strip_prefix(begins));
    line.and_then(|line| line.split(',').next()).map_or(0.0, |number| number.parse().unwrap())
}

/// Returns how many scripts the server has run for its clients.
pub(crate) fn script_calls(url: &str) -> f64 {
    let count = |command| info(url, "commandstats", &format!("cmdstat_{command}:calls="));
    count("evalsha") + count("eval")
}

/// Returns how many bytes the server uses.
pub(crate) fn used_memory(url: &str) -> f64 {
    info(url, "memory", "used_memory:")
}
