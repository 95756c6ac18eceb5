#![doc = include_str!("../README.md")]

mod acquire;
mod address;
mod backend;
mod channels;
mod check;
mod client;
mod config;
mod connect;
#[cfg(feature = "serde")]
mod deserialize;
mod error;
mod extend;
mod granting;
mod holders;
mod index;
mod line;
mod lookup;
mod names;
mod operate;
mod options;
mod record;
mod release;
mod replicas;
mod retire;
mod script;
mod share;
mod store;
mod wait;
mod waiters;

pub use backend::RedisBackend;
pub use config::RedisConfig;
