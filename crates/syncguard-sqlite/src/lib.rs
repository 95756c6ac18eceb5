#![doc = include_str!("../README.md")]

mod acquire;
#[cfg(test)]
mod applied;
mod backend;
mod check;
mod config;
mod connect;
mod connection;
mod decision;
#[cfg(feature = "serde")]
mod deserialize;
mod error;
mod extend;
mod holder;
mod identity;
mod key_state;
mod lookup;
mod operate;
mod permission;
mod prune;
mod release;
mod retire;
mod row;
mod schema;
mod share;
mod statement;
mod store;
mod transaction;
mod turn;
mod wait;
mod waiters;
mod work;
mod worker;

pub use backend::SqliteBackend;
pub use config::SqliteConfig;
