#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpStream, ToSocketAddrs},
};

use crate::operations::LONG;

/// Grants a lock if there is no live record, and increments the fence.
const ACQUIRE: &str = r"
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    local stored = redis.call('GET', KEYS[1])
    if stored and cjson.decode(stored).expiresAtMs > now - 1000 then return 'contended' end
    local fence = string.format('%015d', redis.call('INCR', KEYS[2]))
    local record = {lockId = ARGV[1], expiresAtMs = now + ARGV[2], acquiredAtMs = now, key = ARGV[3],
      fence = fence}
    redis.call('SET', KEYS[1], cjson.encode(record), 'PX', ARGV[2])
    redis.call('SET', KEYS[3], KEYS[1], 'PX', ARGV[2])
    return fence";

/// Releases a lock if the id holds it. It publishes nothing.
const RELEASE: &str = r"
    local name = redis.call('GET', KEYS[1])
    if not name then return 'absent' end
    local stored = redis.call('GET', name)
    if not stored or cjson.decode(stored).lockId ~= ARGV[1] then return 'absent' end
    redis.call('DEL', name, KEYS[1])
    return 'released'";

/// A client on a single Redis server. Its grants last for a minute.
#[derive(Debug)]
pub struct RedisPeer {
    connection: BufReader<TcpStream>,
    /// Without trailing colons.
    prefix: &'static str,
    ttl: Duration,
}

impl RedisPeer {
    /// Connects. The prefix has no trailing colons.
    pub async fn connect(server: impl ToSocketAddrs, prefix: &'static str) -> Self {
        let connection = BufReader::new(TcpStream::connect(server).await.unwrap());
        Self { connection, prefix, ttl: LONG }
    }

    /// Sets the ttl of its grants.
    #[must_use]
    pub fn with_ttl(self, ttl: Duration) -> Self {
        Self { ttl, ..self }
    }

    /// Joins the prefix and a text. The text is in normal form, and short enough not to be hashed.
    #[must_use]
    pub fn name(&self, text: &str) -> String {
        match self.prefix {
            "" => text.to_owned(),
            prefix => format!("{prefix}:{text}"),
        }
    }

    /// Returns the fence of a grant, or `None` if another client holds the lock.
    ///
    /// # Errors
    ///
    /// The error that the server replied with.
    pub async fn acquire(&mut self, key: &str, id: &str) -> Result<Option<u64>, String> {
        let lock = self.name(key);
        let (fence, index) = (self.name(&format!("fence:{lock}")), self.name(&format!("id:{id}")));
        let ttl = self.ttl.as_millis().to_string();
        let words = ["EVAL", ACQUIRE, "3", &lock, &fence, &index, id, &ttl, key];
        let reply = self.call(&words).await?.unwrap();
        Ok((reply != "contended").then(|| reply.parse().unwrap()))
    }

    /// Returns whether the id held a lock.
    pub async fn release(&mut self, id: &str) -> bool {
        let index = self.name(&format!("id:{id}"));
        let reply = self.call(&["EVAL", RELEASE, "1", &index, id]).await.unwrap();
        reply.unwrap() == "released"
    }

    /// Sends a command and returns its reply, which must not be an array.
    ///
    /// # Errors
    ///
    /// The error that the server replied with.
    pub async fn call(&mut self, words: &[&str]) -> Result<Option<String>, String> {
        let words: Vec<_> =
            words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        let request = format!("*{}\r\n{}", words.len(), words.concat());
        self.connection.write_all(request.as_bytes()).await.unwrap();
        let mut line = String::new();
        self.connection.read_line(&mut line).await.unwrap();
        let line = line.trim_end();
        match line.split_at(1) {
            ("-", error) => Err(error.to_owned()),
            ("$", "-1") => Ok(None),
            ("$", length) => {
                let mut text = vec![0; length.parse::<usize>().unwrap() + 2];
                self.connection.read_exact(&mut text).await.unwrap();
                text.truncate(text.len() - 2);
                Ok(Some(String::from_utf8(text).unwrap()))
            }
            (_, value) => Ok(Some(value.to_owned())),
        }
    }
}
