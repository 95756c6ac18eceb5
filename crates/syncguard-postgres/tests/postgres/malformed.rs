//! Servers that send malformed messages.

use std::net::SocketAddr;

use syncguard_testkit::sql::malformed::{FirstMessage, panics_on};

use crate::Names;

#[tokio::test]
async fn a_message_on_which_the_driver_panics_is_an_error() {
    let url = |address: SocketAddr| format!("postgres://u@{address}/d?sslmode=disable");
    for (answer, panics) in [
        // An empty authentication message; one whose length is too short; one with half a salt.
        (&b"R\0\0\0\x04"[..], true),
        (&b"R\0\0\0\0"[..], true),
        (&b"R\0\0\0\x0a\0\0\0\x05\0\0"[..], true),
        // A parameter without an end; bytes that are not a message.
        (&b"S\0\0\0\x06ab"[..], false),
        (&b"\xff\xff\xff\xff\xff\xff"[..], false),
    ] {
        assert_eq!(
            panics_on::<Names>(FirstMessage::FromClient, answer, url).await,
            panics,
            "{answer:?}"
        );
    }
}
