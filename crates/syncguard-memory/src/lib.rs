#![doc = include_str!("../README.md")]

mod acquire;
mod backend;
mod extend;
mod lookup;
mod operate;
mod rejection;
mod release;
mod retire;
mod sharing;
mod slots;
mod store;
mod wait;
mod waiters;

pub use backend::MemoryBackend;
