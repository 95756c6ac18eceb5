#![doc = include_str!("../README.md")]

mod acquire;
mod backend;
mod check;
mod config;
mod conflict;
mod connection;
mod error;
mod extend;
mod lookup;
mod opening;
mod operate;
mod pool;
mod prune;
mod release;
mod schema;
mod sql;
mod statement;
mod store;
mod table;
mod transport;

pub use backend::MysqlBackend;
pub use config::MysqlConfig;
