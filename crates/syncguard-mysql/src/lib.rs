#![doc = include_str!("../README.md")]

mod acquire;
mod backend;
mod check;
mod config;
mod conflict;
mod connect;
mod connection;
#[cfg(feature = "serde")]
mod deserialize;
mod error;
mod extend;
mod granting;
mod holders;
mod lookup;
mod names;
mod operate;
mod pool;
mod prune;
mod readers;
mod record;
mod release;
mod retire;
mod row;
mod schema;
mod share;
mod sql;
mod statement;
mod store;
mod transport;

pub use backend::MysqlBackend;
pub use config::MysqlConfig;
