//! Servers that send malformed messages.

use std::net::SocketAddr;

use syncguard_testkit::sql::malformed::{FirstMessage, panics_on};

use crate::Name;

#[tokio::test]
async fn a_message_on_which_the_driver_panics_is_an_error() {
    let url = |address: SocketAddr| format!("mysql://u@{address}/d?ssl-mode=DISABLED");
    let mut panics = 0;
    for greeting in [
        // Greetings that end after the version of the protocol, after that of the server, and in
        // the middle of a number; an empty greeting.
        &b"\x01\0\0\0\x0a"[..],
        b"\x04\0\0\0\x0a8.\0",
        b"\x06\0\0\0\x0a8.\0ab",
        b"\0\0\0\0",
    ] {
        panics += usize::from(panics_on::<Name>(FirstMessage::FromServer, greeting, url).await);
    }
    assert!(panics > 0, "the driver takes all of them");
}
