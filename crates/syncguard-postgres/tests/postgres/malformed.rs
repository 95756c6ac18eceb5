//! Servers that send what no server should.

use std::net::SocketAddr;

use syncguard_core::ErrorKind;
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::operations::error_of;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::config;

/// Answers each connection with these bytes.
async fn server(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut asked = [0; 1024];
                // The client may have gone.
                let _ = client.read(&mut asked).await;
                let _ = client.write_all(answer).await;
                while client.read(&mut asked).await.is_ok_and(|read| read > 0) {}
            });
        }
    });
    address
}

#[tokio::test]
async fn a_message_on_which_the_driver_panics_is_an_error() {
    for (answer, panics) in [
        // An authentication that says nothing; one whose length is too short; one with half a salt.
        (&b"R\0\0\0\x04"[..], true),
        (&b"R\0\0\0\0"[..], true),
        (&b"R\0\0\0\x0a\0\0\0\x05\0\0"[..], true),
        // A parameter without an end, and no message at all.
        (&b"S\0\0\0\x06ab"[..], false),
        (&b"\xff\xff\xff\xff\xff\xff"[..], false),
    ] {
        let url = format!("postgres://u@{}/d?sslmode=disable", server(answer).await);
        let error =
            error_of(PostgresBackend::connect(config(&url)).await, ErrorKind::ServiceUnavailable);
        assert!(!error.may_have_applied(), "{error}");
        assert_eq!(error.to_string().contains("panicked"), panics, "{answer:?}: {error}");
    }
}
