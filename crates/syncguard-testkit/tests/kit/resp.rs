use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

/// Longer than any reply takes on a busy machine.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// Long enough for a reply in flight to arrive.
const SILENCE: Duration = Duration::from_millis(300);

/// A minimal connection to Redis: no retries, no second connection.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) async fn to(address: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    /// Sends a command and returns the reply as one line, a bulk string without its header.
    pub(crate) async fn request(&mut self, words: &str) -> io::Result<String> {
        self.send(words).await?;
        self.reply().await
    }

    pub(crate) async fn send(&mut self, words: &str) -> io::Result<()> {
        self.0.get_mut().write_all(&encode(words)).await
    }

    pub(crate) async fn reply(&mut self) -> io::Result<String> {
        let reply = timeout(REPLY_TIMEOUT, self.read_value());
        reply.await.expect("an answer or an end in time")
    }

    /// Returns whether nothing arrives for as long as a reply could take.
    pub(crate) async fn is_silent(&mut self) -> bool {
        timeout(SILENCE, self.0.fill_buf()).await.is_err()
    }

    /// Returns whether the other side has closed the connection.
    pub(crate) async fn is_cut(&mut self) -> bool {
        self.reply().await.is_err()
    }

    async fn read_value(&mut self) -> io::Result<String> {
        let header = self.read_line().await?;
        let values = match header.split_at(1) {
            ("$", "-1") => return Ok("(nil)".to_owned()),
            ("$", length) => {
                let mut payload = vec![0; length.parse::<usize>().unwrap() + 2];
                self.0.read_exact(&mut payload).await?;
                let text = String::from_utf8(payload).unwrap();
                return Ok(text.trim_end().to_owned());
            }
            ("*", values) => values.parse().unwrap(),
            _ => return Ok(header),
        };
        let mut parts = Vec::new();
        for _ in 0..values {
            parts.push(Box::pin(self.read_value()).await?);
        }
        Ok(parts.join(" "))
    }

    async fn read_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line).await? == 0 || !line.ends_with('\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}

/// Sends one command on a new connection and returns the reply.
pub(crate) async fn request(address: SocketAddr, words: &str) -> String {
    Connection::to(address).await.request(words).await.unwrap()
}

pub(crate) fn encode(words: &str) -> Vec<u8> {
    let words: Vec<&str> = words.split(' ').collect();
    let head = format!("*{}\r\n", words.len());
    let bulk = |word: &str| format!("${}\r\n{word}\r\n", word.len());
    let body: String = words.into_iter().map(bulk).collect();
    (head + &body).into_bytes()
}
