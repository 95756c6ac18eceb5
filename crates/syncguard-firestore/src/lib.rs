#![doc = include_str!("../README.md")]

mod acquire;
mod backend;
mod check;
mod client;
mod clock;
mod config;
mod detached;
mod error;
mod extend;
mod grants;
mod layout;
mod lookup;
mod nested;
mod operate;
mod record;
mod recount;
mod release;
mod retry;
mod runtimes;
mod store;
mod targets;
mod wait;
mod waiters;

pub use backend::FirestoreBackend;
pub use config::FirestoreConfig;
