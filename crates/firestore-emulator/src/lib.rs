#![doc = include_str!("../README.md")]

mod calls;
mod connection;
mod database;
mod emulator;
mod faults;
mod field_path;
mod listen;
mod name;
mod query;
mod rpc;
mod server;
mod service;
mod store;
mod time;
mod transaction;
mod value;
mod watchers;

pub use calls::Calls;
pub use emulator::{Builder, Emulator};
pub use faults::{Fault, Injection};
pub use rpc::Rpc;
pub use time::ClockOffset;
pub use transaction::Concurrency;
