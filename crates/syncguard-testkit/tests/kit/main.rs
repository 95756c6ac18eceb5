//! Tests of the test kit with real servers, through raw sockets.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod clock;
mod cluster;
mod find;
mod lifetime;
mod mariadb;
mod persistent;
mod pgbouncer;
mod postgres;
mod proxy;
mod proxy_cuts;
mod redis;
mod resp;
mod sentinel;
mod shared;
