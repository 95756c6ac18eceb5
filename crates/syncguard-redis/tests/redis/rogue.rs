//! A server with malformed replies. Replies that the driver does not bound are not tested here;
//! SECURITY.md describes them.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use syncguard_core::{
    Error, ErrorKind,
    backend::{AcquireRequest, LockBackend},
};
use syncguard_redis::RedisBackend;
use syncguard_testkit::{
    operations::{LONG, ask, eventually, granted, released},
    server::RedisServer,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream, tcp},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::sleep,
};

use crate::{config, safe};

/// The reply to the next request.
#[derive(Clone)]
enum Answer {
    Text(String),
    /// This beginning, and then more of it until the connection is closed.
    Endless(&'static str),
}

/// A proxy that can reply to the next request in place of the server.
struct Rogue {
    address: SocketAddr,
    next: Arc<Mutex<Option<Answer>>>,
    /// Receives a message when an answer has ended.
    cut: UnboundedReceiver<()>,
}

impl Rogue {
    async fn before(server: &RedisServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, upstream) = (listener.local_addr().unwrap(), server.address());
        let (next, (cutting, cut)) = (Arc::new(Mutex::new(None)), unbounded_channel());
        let answer = next.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(upstream).await.unwrap();
                tokio::spawn(relay(client, server, answer.clone(), cutting.clone()));
            }
        });
        Self { address, next, cut }
    }

    fn answer(&self, answer: Answer) {
        *self.next.lock().unwrap() = Some(answer);
    }
}

async fn relay(
    client: TcpStream,
    server: TcpStream,
    next: Arc<Mutex<Option<Answer>>>,
    cut: UnboundedSender<()>,
) {
    let (mut requests, replies) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let replies = Arc::new(tokio::sync::Mutex::new(replies));
    let to_client = replies.clone();
    let forwarding = tokio::spawn(async move {
        let _ = copy(&mut from_server, &mut *to_client.lock().await).await;
    });
    let mut request = vec![0; 1 << 16];
    while let Ok(length @ 1..) = requests.read(&mut request).await {
        let answer = next.lock().unwrap().take();
        let Some(answer) = answer else {
            to_server.write_all(&request[..length]).await.unwrap();
            continue;
        };
        forwarding.abort();
        let mut replies = replies.lock().await;
        write_answer(&mut replies, answer).await;
        let _ = cut.send(());
        return;
    }
}

/// Writes an answer. An endless one ends when the client closes the connection.
async fn write_answer(replies: &mut tcp::OwnedWriteHalf, answer: Answer) {
    match answer {
        Answer::Text(text) => {
            let _ = replies.write_all(text.as_bytes()).await;
        }
        Answer::Endless(beginning) => {
            let mut text = beginning.to_owned();
            // Slowly, because the client keeps in memory what has arrived until the connection is
            // closed.
            while replies.write_all(text.as_bytes()).await.is_ok() {
                text = beginning.rsplit("\r\n").next().unwrap_or_default().repeat(100);
                sleep(Duration::from_millis(2)).await;
            }
        }
    }
}

async fn started() -> (RedisServer, Rogue, RedisBackend) {
    let server = safe().start().await.unwrap();
    let rogue = Rogue::before(&server).await;
    let config = config(&server.url_through(rogue.address));
    let backend =
        RedisBackend::connect(config.command_timeout(Duration::from_secs(1))).await.unwrap();
    (server, rogue, backend)
}

/// Asserts that the error is typed and does not report that nothing was applied.
#[track_caller]
fn assert_uncertain(text: &str, error: &Error) {
    let kinds = [ErrorKind::Internal, ErrorKind::NetworkTimeout, ErrorKind::ServiceUnavailable];
    assert!(kinds.contains(&error.kind()) && error.may_have_applied(), "{text:?}: {error:?}");
}

/// Asserts that the next requests succeed. The request with the forged reply never reached the
/// server.
async fn assert_recovers(backend: &RedisBackend, request: &AcquireRequest) {
    let served = async || backend.is_locked(&request.key).await.is_ok();
    eventually("the driver has connected again", served).await;
    granted(backend, request).await;
    assert!(released(backend, request).await);
}

#[tokio::test]
async fn a_malformed_reply_is_a_typed_error_and_the_next_request_succeeds() {
    let (_server, rogue, backend) = started().await;
    for text in [
        "no protocol\r\n".to_owned(),
        "HTTP/1.1 400 Bad Request\r\n\r\n".to_owned(),
        "\0\0\0\0\r\n".to_owned(),
        "+OK\r\n".to_owned(),
        "$-1\r\n".to_owned(),
        "$-2\r\n".to_owned(),
        "$3\r\nabcdef\r\n".to_owned(),
        "$9223372036854775807\r\nabc".to_owned(),
        "$99999999999999999999\r\nabc".to_owned(),
        "*-1\r\n".to_owned(),
        "*-2\r\n".to_owned(),
        "*1099511627776\r\n:1\r\n".to_owned(),
        "*9223372036854775807\r\n:1\r\n".to_owned(),
        ":9223372036854775808\r\n".to_owned(),
        ":-9223372036854775808\r\n".to_owned(),
        "*2\r\n:-1\r\n:-1\r\n".to_owned(),
        "*2\r\n:1\r\n$2\r\n{}\r\n".to_owned(),
        "%1\r\n+a\r\n+b\r\n".to_owned(),
        format!("{}:1\r\n", "*1\r\n".repeat(100)),
    ] {
        let request = ask("job", LONG);
        rogue.answer(Answer::Text(text.clone()));
        assert_uncertain(&text, &backend.acquire(&request).await.unwrap_err());
        assert_recovers(&backend, &request).await;
    }
}

#[tokio::test]
async fn an_endless_reply_is_ended_by_closing_its_connection() {
    let (_server, mut rogue, backend) = started().await;
    for beginning in ["$1000000000000\r\nabcdefghij", "+abcdefghij", "*1000000000\r\n:1\r\n+a"] {
        let request = ask("job", LONG);
        rogue.answer(Answer::Endless(beginning));
        assert_uncertain(beginning, &backend.acquire(&request).await.unwrap_err());
        rogue.cut.recv().await.unwrap();
        assert_recovers(&backend, &request).await;
    }
}
