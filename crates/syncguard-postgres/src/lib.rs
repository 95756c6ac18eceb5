#![doc = include_str!("../README.md")]

mod acquire;
mod address;
mod backend;
mod batch;
mod check;
mod columns;
mod config;
mod connect;
mod connection;
#[cfg(feature = "serde")]
mod deserialize;
mod error;
mod extend;
mod extends;
mod granting;
mod holder_cache;
mod lanes;
mod leaves;
mod line;
mod listener;
mod lookup;
mod names;
mod operate;
mod pool;
mod prune;
mod record;
mod release;
mod released;
mod retire;
mod row;
mod schema;
mod serial;
mod share;
mod shares;
mod sharing;
mod sql;
mod statement;
mod store;
mod subscriptions;
mod transport;
mod wait;
mod waiters;

pub use backend::PostgresBackend;
pub use config::PostgresConfig;
