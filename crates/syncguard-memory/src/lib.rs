#![doc = include_str!("../README.md")]

mod acquire;
mod backend;
mod extend;
mod lookup;
mod release;
mod slots;
mod wait;

pub use backend::MemoryBackend;
