#![doc = include_str!("../README.md")]

mod acquire;
mod backend;
mod check;
mod config;
mod connection;
mod error;
mod extend;
mod lookup;
mod operate;
mod release;
mod schema;
mod wait;

pub use backend::SqliteBackend;
pub use config::SqliteConfig;
