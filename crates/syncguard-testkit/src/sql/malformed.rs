//! Servers that send malformed messages.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;

use syncguard_core::ErrorKind;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::Tables;
use crate::operations::error_of;

/// Who sends the first message of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstMessage {
    /// The server greets the client.
    FromServer,
    /// The server answers a request of the client.
    FromClient,
}

/// Connects to a server that sends these bytes to each client. This must fail as if there were no
/// server. Returns whether the driver panicked.
pub async fn panics_on<T: Tables>(
    first: FirstMessage,
    answer: &'static [u8],
    url: fn(SocketAddr) -> String,
) -> bool {
    let config = T::fresh().config(&url(server(first, answer).await), &[]);
    let error = error_of(T::open(config).await.map(drop), ErrorKind::ServiceUnavailable);
    assert!(!error.may_have_applied(), "{error}");
    error.to_string().contains("panicked")
}

/// Starts a server that sends these bytes to each client, and nothing else.
async fn server(first: FirstMessage, answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut asked = [0; 1024];
                if first == FirstMessage::FromClient {
                    let _ = client.read(&mut asked).await;
                }
                // The client may have disconnected.
                let _ = client.write_all(answer).await;
                while client.read(&mut asked).await.is_ok_and(|read| read > 0) {}
            });
        }
    });
    address
}
