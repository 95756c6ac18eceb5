#![doc = include_str!("../README.md")]

mod acquire;
mod backend;
mod check;
mod client;
mod clock;
mod config;
mod connect;
#[cfg(feature = "serde")]
mod deserialize;
mod error;
mod extend;
mod find;
mod grants;
mod key_state;
mod lookup;
mod names;
mod nested;
mod operate;
mod prune;
mod record;
mod recount;
mod release;
mod retire;
mod retry;
mod runtimes;
mod seen;
mod sharing;
mod store;
mod targets;
mod wait;
mod waiters;

pub use backend::FirestoreBackend;
pub use config::FirestoreConfig;
