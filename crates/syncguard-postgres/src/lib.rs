#![doc = include_str!("../README.md")]

mod acquire;
mod backend;
mod check;
mod config;
mod connection;
mod error;
mod extend;
mod extends;
mod interests;
mod keys;
mod listener;
mod lookup;
mod opening;
mod operate;
mod pool;
mod prune;
mod release;
mod schema;
mod sightings;
mod sql;
mod statement;
mod store;
mod tables;
mod transport;
mod wait;
mod waiters;

pub use backend::PostgresBackend;
pub use config::PostgresConfig;
