use std::net::SocketAddr;

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpStream, tcp::OwnedReadHalf},
    sync::{mpsc, oneshot},
};

/// A client without a driver: one connection, and only what pipelining needs.
///
/// Requests that are ready together are written together, each as a separate command. So no client
/// that sends these commands over one connection can be faster.
#[derive(Clone)]
pub(crate) struct Bare(mpsc::UnboundedSender<Request>);

struct Request {
    text: String,
    answer: oneshot::Sender<String>,
}

impl Bare {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (from_server, mut to_server) = stream.into_split();
        let (sender, mut requests) = mpsc::unbounded_channel::<Request>();
        let (asked, answers) = mpsc::unbounded_channel();
        tokio::spawn(read(from_server, answers));
        tokio::spawn(async move {
            let mut ready = Vec::new();
            while requests.recv_many(&mut ready, usize::MAX).await > 0 {
                let mut text = String::new();
                for request in ready.drain(..) {
                    text.push_str(&request.text);
                    asked.send(request.answer).unwrap();
                }
                to_server.write_all(text.as_bytes()).await.unwrap();
            }
        });
        Self(sender)
    }

    /// Sends a command, and returns the first line of its reply.
    pub(crate) async fn call(&self, words: &[&str]) -> String {
        let mut text = format!("*{}\r\n", words.len());
        for word in words {
            text.extend(["$", &word.len().to_string(), "\r\n", word, "\r\n"]);
        }
        let (answer, answered) = oneshot::channel();
        self.0.send(Request { text, answer }).ok().unwrap();
        answered.await.unwrap()
    }
}

/// Delivers the replies in the order of the requests.
async fn read(
    from_server: OwnedReadHalf,
    mut answers: mpsc::UnboundedReceiver<oneshot::Sender<String>>,
) {
    let mut lines = BufReader::with_capacity(64 * 1024, from_server).lines();
    while let Some(answer) = answers.recv().await {
        let Some(line) = lines.next_line().await.unwrap() else { return };
        skip(&line, &mut lines).await;
        answer.send(line).unwrap();
    }
}

/// Skips the rest of a reply after its first line: the numbers of a list, or the text of a string.
async fn skip(first: &str, lines: &mut Lines<BufReader<OwnedReadHalf>>) {
    let rest = match first.strip_prefix('*') {
        Some(count) => count.parse().unwrap(),
        None => usize::from(first.starts_with('$')),
    };
    for _ in 0..rest {
        lines.next_line().await.unwrap().unwrap();
    }
}
