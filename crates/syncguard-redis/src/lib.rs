#![doc = include_str!("../README.md")]

mod acquire;
mod backend;
mod channels;
mod check;
mod client;
mod config;
mod error;
mod extend;
mod layout;
mod lookup;
mod operate;
mod options;
mod record;
mod release;
mod replicas;
mod script;
mod store;
mod wait;
mod waiters;

pub use backend::RedisBackend;
pub use config::RedisConfig;
