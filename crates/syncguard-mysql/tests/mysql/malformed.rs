//! Servers that send what no server should.

use std::net::SocketAddr;

use syncguard_core::ErrorKind;
use syncguard_mysql::MysqlBackend;
use syncguard_testkit::operations::error_of;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::config;

/// Greets each connection with these bytes.
async fn server(greeting: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                // The client may have gone.
                let _ = client.write_all(greeting).await;
                let mut asked = [0; 1024];
                while client.read(&mut asked).await.is_ok_and(|read| read > 0) {}
            });
        }
    });
    address
}

#[tokio::test]
async fn a_message_on_which_the_driver_panics_is_an_error() {
    let mut panics = 0;
    for greeting in [
        // Greetings that end behind the version of the protocol, of the server, and in the middle of a
        // number; and none.
        &b"\x01\0\0\0\x0a"[..],
        b"\x04\0\0\0\x0a8.\0",
        b"\x06\0\0\0\x0a8.\0ab",
        b"\0\0\0\0",
    ] {
        let url = format!("mysql://u@{}/d?ssl-mode=DISABLED", server(greeting).await);
        let error =
            error_of(MysqlBackend::connect(config(&url)).await, ErrorKind::ServiceUnavailable);
        assert!(!error.may_have_applied(), "{error}");
        panics += usize::from(error.to_string().contains("panicked"));
    }
    assert!(panics > 0, "the driver takes all of them");
}
